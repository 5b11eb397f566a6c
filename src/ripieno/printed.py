"""What a worker process has printed: exact positions in it, and its end, read from memory that its warden fills.

A warden (``ripieno.agent.workers.warden``) reads the worker's two pipes, and keeps the end of each in a ring in
shared memory with the number of bytes that it has read so far. Whoever wants to know which bytes were written
between two moments needs no answer of the warden, and no marks among the bytes that a program might print itself::

    worker ── write ──> pipe ── read by the warden ──> ring, and the number of bytes read
                         |                                |
                         '── bytes not read yet ──── + ───'── = bytes written so far: the position

Both ends of a lane use it: the agent for workers that take one attempt at a time, our own worker for attempts
that follow each other in its inbox.

The memory, in 64-bit words of this machine: 0 ``version`` (odd while the warden reads from a pipe and notes what it
has read), 1 and 2 the bytes read from standard output and standard error, 3 the size of a ring, 4 the limit
of what is kept for an attempt. The rings follow at ``RINGS_AT``.
"""

import ctypes
import mmap
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ripieno.domain.output import AttemptOutput

#: Set for workers that an agent starts, where the memory is at hand: the warden's process id and its descriptors of
#: the memory and of the pipes of standard output and standard error, with commas between.
PRINTED_VARIABLE = "RIPIENO_PRINTED"

VERSION, STDOUT, STDERR, RING_BYTES, LIMIT_BYTES = range(5)
RINGS_AT = 4096
#: The most that the warden reads, and writes into a ring, at once.
STEP_BYTES = 64 * 1024

#: How long to wait for a warden in the middle of a read, or behind. It takes a fraction of a millisecond, unless
#: the machine is very busy or the warden was stopped.
PATIENCE_S = 0.5
_NAP_S = 0.00005


class Position(NamedTuple):
    """How many bytes the worker and its children have written to standard output and standard error so far."""

    stdout: int
    stderr: int


if sys.platform == "linux":
    import fcntl
    import termios

    _FIONREAD = termios.FIONREAD
    #: Size of an ``epoll_event``, padded.
    _EVENT_BYTES = 16
    #: Calls the C library and keeps the interpreter, because these calls do not wait (see ``Surroundings``).
    _SYSTEM = ctypes.PyDLL(None)


class Printed:
    """What one worker process has printed. Use it in one thread.

    Nothing here changes anything of the worker or its warden.
    """

    def __init__(self, warden: int, memory: int, stdout: int, stderr: int) -> None:
        """Open a warden's memory and pipes.

        Args:
            warden: The warden's process id.
            memory: The warden's descriptor of the memory.
            stdout: The warden's descriptor of the pipe of standard output.
            stderr: The warden's descriptor of the pipe of standard error.

        Raises:
            OSError: if they cannot be opened: the warden is gone, belongs to somebody else, or is not to be seen here.
        """
        folder = f"/proc/{warden}/fd"
        descriptor = os.open(f"{folder}/{memory}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, os.fstat(descriptor).st_size, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map)[:RINGS_AT].cast("Q")
        self._ring_bytes = self._words[RING_BYTES]
        #: How much of the end of an attempt's output is kept of each stream.
        self.limit_bytes = self._words[LIMIT_BYTES]
        # They are opened without waiting and never read, only asked how much is in them.
        self._pipes: list[int] = []
        #: Knows whether anything is in a pipe. Unlike ``poll``, it is told of that by whoever writes.
        self._ready = select.epoll()
        try:
            for pipe in (stdout, stderr):
                self._pipes.append(os.open(f"{folder}/{pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                self._ready.register(self._pipes[-1], select.EPOLLIN)
        except OSError:
            self.close()
            raise
        #: The version of the memory when ``position`` was last asked; in a list for ``quiet``.
        self._seen = [-1]
        #: Whether surely nothing was printed since ``position`` was last asked.
        self.quiet = _quiet(self._ready.fileno(), self._words, self._seen)
        #: The position when it was last asked.
        self.last = Position(0, 0)

    @classmethod
    def named(cls, where: str) -> "Printed | None":
        """Open what ``PRINTED_VARIABLE`` names; None if it names nothing, or that cannot be opened from here."""
        if sys.platform != "linux":
            return None
        with suppress(ValueError, TypeError, OSError):
            return cls(*map(int, where.split(",")))
        return None

    def close(self) -> None:
        """Close the pipes; nothing may be asked any more."""
        self._ready.close()
        for pipe in self._pipes:
            os.close(pipe)
        self._pipes.clear()

    def position(self, patience_s: float = PATIENCE_S) -> Position | None:
        """Return the position now; None if the warden is in the middle of a read for longer than ``patience_s``."""
        if self.quiet():
            return self.last
        ends_at = time.monotonic() + patience_s
        words = self._words
        while True:
            version = words[VERSION]
            if not version % 2:
                position = Position(
                    words[STDOUT] + _unread(self._pipes[0]),
                    words[STDERR] + _unread(self._pipes[1]),
                )
                if words[VERSION] == version:
                    self._seen[0], self.last = version, position
                    return position
            elif time.monotonic() > ends_at:
                return None
            else:
                time.sleep(_NAP_S)

    @property
    def read(self) -> Position:
        """How much of what was written the warden has read; it may be behind a little."""
        return Position(self._words[STDOUT], self._words[STDERR])

    def has_read(self, position: Position) -> bool:
        """Whether the warden has read all that was written before a position, so that ``between`` knows it."""
        return self._words[STDOUT] >= position.stdout and self._words[STDERR] >= position.stderr

    def wait(self, position: Position) -> None:
        """Wait until the warden has read all that was written before a position, but no longer than ``PATIENCE_S``."""
        ends_at = time.monotonic() + PATIENCE_S
        while not self.has_read(position) and time.monotonic() < ends_at:
            time.sleep(_NAP_S)

    def between(self, start: Position, end: Position) -> AttemptOutput | None:
        """Return the end of what was written between two positions; None if nothing was.

        What the warden has not read yet, or has overwritten since, counts as left out.
        """
        if end == start:
            return None
        out = self._end_of(0, start.stdout, end.stdout)
        err = self._end_of(1, start.stderr, end.stderr)
        return AttemptOutput(
            out, err, max(0, end.stdout - start.stdout) - len(out), max(0, end.stderr - start.stderr) - len(err)
        )

    def _end_of(self, stream: int, start: int, end: int) -> bytes:
        word, ring_at, ring_bytes = STDOUT + stream, RINGS_AT + stream * self._ring_bytes, self._ring_bytes
        if self._words[word] < end:
            return b""  # the end is what matters, and it is not there
        first = max(start, end - self.limit_bytes)
        if first >= end:
            return b""
        begin, stop = first % ring_bytes, (end - 1) % ring_bytes + 1
        if begin < stop:
            data = self._map[ring_at + begin : ring_at + stop]
        else:
            data = self._map[ring_at + begin : ring_at + ring_bytes] + self._map[ring_at : ring_at + stop]
        # Meanwhile the warden may have gone on, and be in the middle of another step.
        intact_from = self._words[word] + STEP_BYTES - ring_bytes
        return data[max(0, intact_from - first) :]


def _quiet(ready: int, words: memoryview, seen: list[int]) -> Callable[[], bool]:
    """Return ``Printed.quiet``: one call of the kernel, and little else, since it is asked for each attempt.

    Args:
        ready: Descriptor of the ``epoll`` of both pipes.
        words: The words of the memory.
        seen: The version that was seen last.
    """
    wait, event = _SYSTEM.epoll_wait, ctypes.create_string_buffer(_EVENT_BYTES)

    def quiet() -> bool:
        # In this order: what is not in a pipe any more has been read, and the version says so.
        return not wait(ready, event, 1, 0) and words[0] == seen[0]

    return quiet


def _unread(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, _FIONREAD, bytes(4)), sys.byteorder)
