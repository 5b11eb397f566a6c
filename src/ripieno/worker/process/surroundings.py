"""``Surroundings``: restores what a handler changed in its process, before the next task can notice."""

import ctypes
import os
import signal
import sys

# ``signal.getsignal`` looks for the name of an enum first, in vain for a handler of ours (measured: 3 us).
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Mapping
from contextlib import suppress

from ripieno.worker.process.borders import Borders

if sys.platform != "win32":
    import fcntl

#: The costlier checks are made when nothing waits behind an attempt, and at the latest after so many attempts.
LOOK_AFTER = 16

#: ``os.fchdir`` and ``fcntl.fcntl`` hand the interpreter to the I/O thread each time (measured: 6 us a task); these
#: calls do not wait, and keep it.
_SYSTEM = ctypes.PyDLL(None) if sys.platform != "win32" else None


class Surroundings:
    """The current directory, the umask, the standard streams' descriptors and the worker's own signals.

    Their state is remembered when the worker begins to serve. Use this in the thread of the handler.

    Args:
        borders: Told when no attempt waits.
    """

    def __init__(self, borders: Borders) -> None:
        self._borders = borders
        self._folder = os.open(".", os.O_RDONLY) if sys.platform != "win32" else -1
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._streams = _kept_streams()
        self._handlers: Mapping[signal.Signals, object] = {}
        self._unseen = 0

    def keep_signals(self, handlers: Mapping[signal.Signals, object]) -> None:
        """Set the worker's own signal handlers, which ``restore`` puts back; none once the worker is told to stop."""
        self._handlers = handlers

    def restore(self, *, idle: bool) -> None:
        """Put back what the last attempt changed; ``idle`` is true when no attempt waits behind it."""
        if idle:
            self._borders.rest()
        if self._folder < 0:
            return
        if _SYSTEM is not None:
            _SYSTEM.fchdir(self._folder)  # fails if the folder cannot be entered any more, which is ignored
        os.umask(self._umask)
        self._unseen += 1
        if idle or self._unseen >= LOOK_AFTER:
            self._unseen = 0
            self._restore_streams(idle=idle)
            self._restore_signals()

    def close(self) -> None:
        """Close the descriptors that were kept, when the worker serves no more."""
        for descriptor in (self._folder, *self._streams.values()):
            if descriptor >= 0:
                with suppress(OSError):  # a handler closed it
                    os.close(descriptor)
        self._folder, self._streams = -1, {}

    def _restore_streams(self, *, idle: bool) -> None:
        """Reopen standard streams that were closed, lest output go to a file or socket that got their number.

        While there is time, also those that were redirected and left so: the output of other tasks would be lost.
        """
        for number, kept in self._streams.items():
            if not _is_standard(number) or (idle and number and not os.path.sameopenfile(number, kept)):
                with suppress(OSError):
                    os.dup2(kept, number)

    def _restore_signals(self) -> None:
        for number, ours in list(self._handlers.items()):
            if getsignal(number) is not ours and self._handlers:
                signal.signal(number, ours)  # type: ignore[arg-type]


def _kept_streams() -> dict[int, int]:
    kept: dict[int, int] = {}
    if sys.platform != "win32":
        for number in (0, 1, 2):
            with suppress(OSError):
                if _is_standard(number):
                    # A number far from those that are given out next.
                    kept[number] = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 200)
    return kept


if _SYSTEM is None:

    def _is_standard(number: int) -> bool:
        return True

else:
    _flags_of, _GET_FLAGS, _NOT_INHERITED = _SYSTEM.fcntl, fcntl.F_GETFD, fcntl.FD_CLOEXEC

    def _is_standard(number: int) -> bool:
        """Return whether a standard stream is open under its number: anything else there is not inheritable.

        For a number that is closed the system call returns -1, which has all bits set.
        """
        return not _flags_of(number, _GET_FLAGS) & _NOT_INHERITED
