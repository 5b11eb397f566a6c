"""Large results that this worker writes into the object store itself.

Where the object store is a directory that the worker has before it, the bytes need not pass
the agent: a name for them is asked for, the file is written, and the agent is told of it.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.objects import PIECE_BYTES, ObjectFile, is_writable

if TYPE_CHECKING:
    from ripieno.worker.attempt import Attempt
    from ripieno.worker.operations import BytesLike, Operation


#: Names that have waited for longer are not used any more.
USE_WITHIN_S = 600.0


class ObjectPlace:
    """Where large results may be written, and under which names.

    Args:
        ask: Called (in any thread) when there is no name; ``named`` follows.

    Attributes:
        larger_than_bytes: Which are large.
    """

    def __init__(self, directory: ObjectDirectory, larger_than_bytes: int, ask: Callable[[], None]) -> None:
        self.larger_than_bytes = larger_than_bytes
        self._directory = directory
        self._ask = ask
        self._lock = Lock()
        #: Each with the time at which it came.
        self._names: deque[tuple[str, float]] = deque()
        self._wanted: deque[Future[str]] = deque()
        self._closed = False
        # Looked at now: once the control plane has begun anew, its proof is another one.
        self._is_writable = _threads().submit(is_writable, directory)

    @property
    def is_writable(self) -> bool:
        """Whether this worker has the directory before it, and may write there."""
        return self._is_writable.result()

    def name(self) -> str | Future[str]:
        """A name that nobody else has, or the future that brings it: an empty one if there is none.

        Any thread; ``named`` and ``close`` are for the thread that reads the stream.
        """
        with self._lock:
            while self._names:
                name, came_at = self._names.popleft()
                if time.monotonic() - came_at < USE_WITHIN_S:
                    return name
            if self._closed:
                return ""
            wanted: Future[str] = Future()
            self._wanted.append(wanted)
            first = len(self._wanted) == 1
        if first:
            self._ask()
        return wanted

    def named(self, names: Sequence[str]) -> None:
        """Names have come, for those who wait and for later; none at all ends the waits, too."""
        now, served = time.monotonic(), list[tuple[Future[str], str]]()
        with self._lock:
            self._names.extend((name, now) for name in names)
            while self._wanted and (self._names or not names):
                wanted = self._wanted.popleft()
                if wanted.set_running_or_notify_cancel():
                    served.append((wanted, self._names.popleft()[0] if self._names else ""))
            more = bool(self._wanted)
        for wanted, name in served:
            wanted.set_result(name)
        if more:
            self._ask()

    def close(self) -> None:
        """No name will come any more."""
        with self._lock:
            self._closed = True
        self.named(())

    def file(self, name: str) -> ObjectFile:
        """A new object of that name."""
        return ObjectFile(Path(self._directory.path), name)


@cache
def _threads() -> ThreadPoolExecutor:
    # One writes a piece while the other digests it and the handler makes the next.
    return ThreadPoolExecutor(2, "ripieno-objects")


class ObjectResult:
    """One large result on its way to its file; its methods are operations.

    Holds at most three pieces of ``PIECE_BYTES``: one that is being written, one that is
    whole and may be the last, and one that gathers.
    """

    def __init__(self, attempt: "Attempt", key: str, file: ObjectFile) -> None:
        self._attempt = attempt
        self._key = key
        self._file = file
        self._size = 0
        self._digest = hashlib.sha256()
        self._held = bytearray()
        #: The last whole piece. What ends the result is digested, written and made durable in one
        #: go: each trip to a thread costs 0.1 ms.
        self._whole: bytearray | memoryview | None = None
        self._writing: Sequence[Future[Any]] = ()

    def write(self, piece: "BytesLike") -> "Operation[None]":
        """Add a piece of any length.

        Raises:
            OSError: the disk is full, or fails.
        """
        rest = memoryview(piece).cast("B")
        self._size += len(rest)
        while rest:
            if not self._held and len(rest) >= PIECE_BYTES and isinstance(piece, bytes):
                taken = rest[:PIECE_BYTES]  # never changes, so it is written from where it lies
                yield from self._put(taken)
            else:
                taken = rest[: PIECE_BYTES - len(self._held)]
                self._held += taken
                if len(self._held) == PIECE_BYTES:
                    held, self._held = self._held, bytearray()
                    yield from self._put(held)
            rest = rest[len(taken) :]

    def end(self) -> "Operation[None]":
        """The result is complete: on the disk, and told to the agent.

        Raises:
            OSError: the disk is full, or fails.
        """
        yield from self._settle()
        yield from self._wait(_threads().submit(self._finish))
        self._attempt.require_usable()
        self._attempt.send_stored(self._key, StoredObject(self._file.name, self._size, self._digest.digest()))

    def discard(self) -> None:
        """It will not be complete: leave nothing of it."""
        self._file.discard()

    def _put(self, piece: bytearray | memoryview) -> "Operation[None]":
        whole, self._whole = self._whole, piece
        if whole is not None:
            yield from self._settle()
            threads = _threads()
            self._writing = (threads.submit(self._digest.update, whole), threads.submit(self._file.append, whole))

    def _settle(self) -> "Operation[None]":
        writing, self._writing = self._writing, ()
        for future in writing:
            yield from self._wait(future)

    def _wait(self, future: Future[Any]) -> "Operation[None]":
        self._attempt.require_usable()
        name = self._attempt.new_request_id()
        yield self._attempt.wait_for(name, future)
        self._attempt.stop_waiting(name)

    def _finish(self) -> None:
        for piece in (self._whole, self._held):
            if piece:
                self._digest.update(piece)
                self._file.append(piece)
        self._file.finish()
