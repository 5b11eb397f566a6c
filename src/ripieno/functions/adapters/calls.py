"""``Calls``: the calls of an executor that have not ended, and what happens when the executor does."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from typing import Any

from ripieno.functions.adapters.cancelling import Cancelling
from ripieno.functions.adapters.executor_future import ExecutorFuture
from ripieno.functions.adapters.initializing import InitializerError
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.exiting import before_exit


class Calls:
    """The calls of one executor, which may be gone before they have ended.

    Args:
        cluster: Where they run.
        owns_cluster: Whether the cluster is closed once they have ended.
    """

    def __init__(self, cluster: Cluster, *, owns_cluster: bool) -> None:
        self.cluster = cluster
        self.cancelling = Cancelling(cluster)
        self._owns_cluster = owns_cluster
        self._process = os.getpid()
        self._left: set[ExecutorFuture[Any]] = set()
        self._changed = threading.Condition()
        self._entering = 0
        self._refusal: Exception | None = None
        self._ending = threading.Lock()
        self._has_ended = False
        _live.add(self)

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Submit within this block: the end waits for it.

        Raises:
            RuntimeError: nothing more can be submitted.
        """
        with self._changed:
            if self._refusal is not None:
                raise type(self._refusal)(*self._refusal.args) from self._refusal.__cause__
            self._entering += 1
        try:
            yield
        finally:
            with self._changed:
                self._entering -= 1
                self._changed.notify_all()

    def add(self, future: ExecutorFuture[Any]) -> None:
        """Take a future that was submitted, until it is done."""
        future.cancelling = self.cancelling
        self._left.add(future)
        future.add_done_callback(self._done)

    def refuse(self, refusal: Exception) -> None:
        """Raise this from now on when something is submitted; what was refused before stays refused for its reason."""
        with self._changed:
            if self._refusal is None:
                self._refusal = refusal

    def left(self) -> list[ExecutorFuture[Any]]:
        """Return the futures that are not done; what is being submitted just now is waited for."""
        with self._changed:
            self._changed.wait_for(lambda: not self._entering)
        return list(self._left.copy())

    def end(self) -> None:
        """Wait until all calls have ended, then close the cluster if it is owned. May be repeated, by any thread."""
        while left := self.left():
            concurrent.futures.wait(left)
            # A future that was waited for is gone a moment later, when its callbacks have run.
            self._left.difference_update(left)
        with self._ending:
            if self._has_ended:
                return
            self._has_ended = True
            try:
                if self._owns_cluster:
                    self.cluster.close()
            finally:
                _live.discard(self)  # last, as the program ends once nothing is left there

    def end_beside(self) -> None:
        """Have ``end`` called on a thread of its own; the program does not end before that."""
        threading.Thread(target=self.end, name="ripieno-executor", daemon=True).start()

    def abandon(self) -> None:
        """Refuse further calls, since nobody holds the executor, and end when those that there are have ended."""
        self.refuse(RuntimeError("cannot schedule new futures after shutdown"))
        if not self._has_ended:
            self.end_beside()

    def _done(self, future: concurrent.futures.Future[Any]) -> None:
        self._left.discard(future)
        if not future.cancelled() and isinstance(error := future.exception(), InitializerError):
            broken = BrokenExecutor(f"the initializer of a worker failed, so nothing more can be submitted: {error}")
            broken.__cause__ = error
            self.refuse(broken)

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process made them; after a fork they are their parent's."""
        return self._process == os.getpid()


#: Those that have not ended.
_live: set[Calls] = set()


def _end_all() -> None:
    """Wait for the calls of all executors, as the standard library's executors do when the program ends."""
    own = [each for each in _live if each.is_of_this_process]
    for calls in own:  # all of them before one is waited for: its calls may be waiting for what another's will not do
        calls.refuse(RuntimeError("cannot schedule new futures after interpreter shutdown"))
    for calls in own:
        calls.end()


before_exit(_end_all)
