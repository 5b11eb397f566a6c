"""``Cancelling``: cancels calls that no worker runs, for callers that must not wait for the cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from ripieno.domain.errors import RipienoError
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.future import Future

_logger = logging.getLogger(__name__)


class Cancelling:
    """Cancels what was asked for meanwhile in one step, on a thread that lives while there is something to do.

    Callers are event loops, and the garbage collector, which may run on any thread.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # Reentrant: the garbage collector may run while this thread holds it.
        self._lock = threading.RLock()
        self._asked: list[Future[Any]] = []
        self._is_running = False

    def cancel_soon(self, futures: Iterable[Future[Any]]) -> None:
        """Have futures cancelled whose calls no worker runs; returns at once."""
        asked = [future for future in futures if not future.done()]
        if not asked or self._cluster.is_closed:
            return
        with self._lock:
            self._asked += asked
            if self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._run, name="ripieno-cancelling", daemon=True).start()

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._cluster.cancel_waiting(batch)
            except (RipienoError, RuntimeError) as error:
                if self._cluster.is_closed:
                    continue  # its futures have ended with it
                _logger.warning("%d calls were not cancelled, and go on: %s", len(batch), error)

    def _next(self) -> list[Future[Any]]:
        with self._lock:
            batch, self._asked = self._asked, []
            self._is_running = bool(batch)
            return batch
