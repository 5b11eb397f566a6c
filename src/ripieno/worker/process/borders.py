"""``Borders``: where the output of one attempt ends and that of the next begins, among what this process prints.

Handlers print in any way: with ``print``, in C, from children. All of it is in two pipes that the warden reads
(``ripieno.printed``). At the end of each attempt its own text is taken out, exactly: from where the attempt
before ended, or, after a time without attempts, from where it began itself. What children that a handler left
behind, or threads of it, print later belongs to whatever attempt runs then.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ripieno.domain.output import AttemptOutput
from ripieno.printed import PRINTED_VARIABLE, Position, Printed

#: ``_IONBF`` of the C library: a stream without a buffer.
_UNBUFFERED = 2


class Borders:
    """The borders between attempts. Use it in the thread of the handler.

    Args:
        printed: What this process prints; None where that is not kept: attempts have no output then.
    """

    def __init__(self, printed: Printed | None) -> None:
        self._printed = printed
        self._start = Position(0, 0) if printed is not None else None
        #: Whether what was printed since ``_start`` is nobody's.
        self._gap = True
        self._quiet: Callable[[], bool] = printed.quiet if printed is not None else lambda: True
        self._stdout: Any = None
        self._stderr: Any = None
        self._flush_stdout: Callable[[], object] = _nothing
        self._flush_stderr: Callable[[], object] = _nothing

    @classmethod
    def of_this_process(cls) -> "Borders":
        """Return the borders of a process that an agent has started; without output for any other process."""
        # Taken away, because children of a handler print into the pipes of this worker, but are no worker.
        printed = Printed.named(os.environ.pop(PRINTED_VARIABLE, ""))
        if printed is not None:
            _unbuffer_c()
        return cls(printed)

    @property
    def at(self) -> Position:
        """Where the last attempt with output ended."""
        return self._start or Position(0, 0)

    def begin(self) -> None:
        """Note that an attempt begins; what was printed while none ran is not its own."""
        if self._gap and self._printed is not None:
            self._gap = False
            self._start = self._printed.position()

    def end(self) -> AttemptOutput | None:
        """Return what was printed since the attempt began; None if nothing was. The next one may begin at once."""
        self.flush()
        start = self._start
        if self._quiet() and start is not None:
            return None
        printed = self._printed
        if printed is None:
            return None
        self._start = end = printed.position()
        if start is None or end is None or start == end:
            return None
        printed.wait(end)
        return printed.between(start, end)

    def rest(self) -> None:
        """Note that no attempt waits to begin."""
        self._gap = True

    def flush(self) -> None:
        """Write out what Python still holds of the text that was printed."""
        if sys.stdout is not self._stdout or sys.stderr is not self._stderr:
            self._stdout, self._stderr = sys.stdout, sys.stderr
            self._flush_stdout = getattr(sys.stdout, "flush", _nothing)
            self._flush_stderr = getattr(sys.stderr, "flush", _nothing)
        # `suppress` takes longer than all the rest.
        try:  # noqa: SIM105
            self._flush_stdout()
        except Exception:  # noqa: BLE001, S110 - closed by the handler, or made by it
            pass
        try:  # noqa: SIM105
            self._flush_stderr()
        except Exception:  # noqa: BLE001, S110
            pass


def _nothing() -> None:
    pass


def _unbuffer_c() -> None:
    """Have the C library write at once what C code prints: nobody else could say whose text is in its buffer."""
    with suppress(OSError, AttributeError, ValueError):
        library = ctypes.CDLL(None)
        stream = ctypes.c_void_p.in_dll(library, "stdout")
        library.fflush(None)
        library.setvbuf(stream, None, _UNBUFFERED, ctypes.c_size_t(0))
