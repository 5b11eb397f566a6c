"""The thread pool in which an agent waits for its disk."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor


class Threads(ThreadPoolExecutor):
    """A thread pool that goes on with the threads it has when the system gives no more. It always has one.

    An agent that may start no more processes (``ulimit -u``, a container's limit) may start no threads either, for
    as long as workers use up the limit. That is no fault of the attempts whose data is written or read meanwhile.

    Raises:
        OSError: if not even the first thread can be started.
    """

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="ripieno-agent")
        self.submit(int)

    def _adjust_thread_count(self) -> None:
        """Start a thread if one is needed. If none can be started, a running thread takes the queued work."""
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            if not self._threads:
                raise OSError(errno.EAGAIN, "no thread can be started") from error
