"""Large results that this worker writes into the object store itself.

If the object store is a directory that the worker can reach, the bytes need not pass through
the agent: the worker asks for a name, writes the file, and tells the agent of it.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock

from ripieno.domain.data import ObjectDirectory
from ripieno.objects import ObjectFile, is_writable

#: Names that came longer ago than this are not used any more.
USE_WITHIN_S = 600.0


class ObjectPlace:
    """The directory where large results may be written, and names for their files.

    Args:
        ask: Called (in any thread) to ask the agent for names; ``named`` brings them.

    Attributes:
        larger_than_bytes: Results with more bytes than this are large.
    """

    def __init__(self, directory: ObjectDirectory, larger_than_bytes: int, ask: Callable[[], None]) -> None:
        self.larger_than_bytes = larger_than_bytes
        self._directory = directory
        self._ask = ask
        self._lock = Lock()
        #: Names, each with the time at which it came.
        self._names: deque[tuple[str, float]] = deque()
        self._wanted: deque[Future[str]] = deque()
        self._closed = False
        # Checked at once: after a restart of the control plane the directory holds another proof.
        self._is_writable = object_threads().submit(is_writable, directory)

    @property
    def is_writable(self) -> bool:
        """Whether this worker can reach the directory and may write there. Blocks until that has been checked."""
        return self._is_writable.result()

    def name(self) -> str | Future[str]:
        """Return a name that nobody else has, or a future of one; the name is empty if there is none to be had.

        Any thread may call this; ``named`` and ``close`` are for the thread that reads the stream.
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
        """Hand names to the waits in order and keep the rest; without any names, end the waits with empty ones."""
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
        """End all waits for names, with empty ones: no name will come any more."""
        with self._lock:
            self._closed = True
        self.named(())

    def file(self, name: str) -> ObjectFile:
        """Return a new object file of that name."""
        return ObjectFile(Path(self._directory.path), name)


@cache
def object_threads() -> ThreadPoolExecutor:
    """Return the pool of two threads in which large results are digested and written."""
    # One thread writes a piece while the other digests it and the handler makes the next.
    return ThreadPoolExecutor(2, "ripieno-objects")
