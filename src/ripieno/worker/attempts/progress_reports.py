"""``ProgressReports``: tells the agent how far an attempt has come, at most once a second."""

import asyncio
import time
from collections.abc import Callable
from threading import Lock

from ripieno.domain.progress import Progress
from ripieno.worker.attempts.reply_outbox import Outbox

#: Seconds between two reports of an attempt at least.
REPORT_EVERY_S = 1.0


class ProgressReports:
    """The reports of one attempt. Any thread may report; nobody is held up.

    What is reported within ``REPORT_EVERY_S`` after a report waits until that time has passed, and the latest of it
    wins. What still waits at the end of the attempt is dropped: nobody needs it any more.

    Args:
        outbox: Runs what is due later on its loop.
        send: Sends a report. Never blocks.
        is_over: Whether the attempt has ended.
    """

    def __init__(self, outbox: Outbox, send: Callable[[Progress], None], is_over: Callable[[], bool]) -> None:
        self._outbox = outbox
        self._send = send
        self._is_over = is_over
        self._lock = Lock()
        self._sent_at = float("-inf")
        self._waiting: Progress | None = None

    def report(self, progress: Progress) -> None:
        """Report how far the attempt has come: at once if the last report was long enough ago, else soon."""
        with self._lock:
            wait_s = self._sent_at + REPORT_EVERY_S - time.monotonic()
            if wait_s > 0:
                is_first, self._waiting = self._waiting is None, progress
                if is_first:
                    self._outbox.on_loop(lambda: asyncio.get_running_loop().call_later(wait_s, self._due))
                return
            self._sent_at = time.monotonic()
        self._send(progress)

    def _due(self) -> None:
        with self._lock:
            progress, self._waiting = self._waiting, None
            self._sent_at = time.monotonic()
        if progress is not None and not self._is_over():
            self._send(progress)
