"""The threads in which an agent waits for its disk."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor


class Threads(ThreadPoolExecutor):
    """Makes do with the threads that it has where the system gives no more: there is always one.

    Who may start no more processes (``ulimit -u``, a container's limit) may start no threads either, for as
    long as workers use them up. That is no fault of the attempts whose data is to be written or read meanwhile.

    Raises:
        OSError: not even the first thread can be started.
    """

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="ripieno-agent")
        self.submit(int)

    def _adjust_thread_count(self) -> None:
        """Called for each piece of work, which is in the queue by then: whoever is free next takes it."""
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            if not self._threads:
                raise OSError(errno.EAGAIN, "no thread can be started") from error
