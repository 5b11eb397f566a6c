"""Large results that this worker writes into the object store itself.

Where the object store is a directory that the worker has before it, the bytes need not pass
the agent: a name for them is asked for, the file is written, and the agent is told of it.
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
        self._is_writable = object_threads().submit(is_writable, directory)

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
def object_threads() -> ThreadPoolExecutor:
    """The threads in which large results are digested and written."""
    # One writes a piece while the other digests it and the handler makes the next.
    return ThreadPoolExecutor(2, "ripieno-objects")
