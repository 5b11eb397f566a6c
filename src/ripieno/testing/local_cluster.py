"""``LocalCluster``: a cluster without a cluster, for tests."""

from __future__ import annotations

import itertools
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar, cast

from ripieno.client import Client, Session, TaskFailedError, TaskOptions
from ripieno.client.terms.definitions import DEFAULT_MAX_DURATION_S, DEFAULT_MAX_RETRIES
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.failing import exception_of, failures_of
from ripieno.functions.calling.future import Delivered, Future
from ripieno.functions.calling.loops import in_event_loop
from ripieno.functions.calling.submitting import Queued
from ripieno.functions.running.context import is_in_task
from ripieno.functions.showing.counting import Count
from ripieno.functions.terms.errors import FutureMisuseError
from ripieno.testing.local_session import LocalClient, LocalSession
from ripieno.testing.local_tasks import LocalTask, LocalTasks, Result

T = TypeVar("T")

#: Numbers the sessions of this process: workers' caches, which are the process's here, know data by its key.
_sessions = itertools.count(1)


class LocalCluster(Cluster):
    """Has the interface of ``Cluster``, and runs functions in this process, one after the other, in the order of submission.

    ::

        with LocalCluster() as cluster:
            assert cluster.submit(sum, cluster.map(square, range(4))).result() == 14

    When ``submit`` returns, the task and its sub-tasks have run, and the future is done. Everything is as on a cluster,
    as far as a function can see:

    * Functions, arguments, values and exceptions are pickled and unpickled, so that what cannot be sent fails here, too,
      and no task sees what another has changed.
    * ``ripieno.current()``, sub-tasks, values that are handed over, retries, ``Retry.on``, ``unique_key``, ``after``; a
      failure's exception, its remote traceback and its notes; ``future.logs()`` and ``future.failure()``.

    What only time and other processes can do does not happen: delays, deadlines, time limits, priorities, partitions,
    lost workers. ``client`` and most of ``session`` need a server, and say so. There is no thread, except where
    a task is submitted inside an event loop: then it runs in one of its own, while the loop waits.

    Args:
        priority, max_retries, max_duration, partition: Default options of the tasks, as for ``ripieno.connect``.

    Raises:
        InvalidRequestError: an option is out of range.
    """

    def __init__(
        self,
        *,
        priority: int = 1,
        max_retries: int = DEFAULT_MAX_RETRIES,
        max_duration: float | timedelta = DEFAULT_MAX_DURATION_S,
        partition: str | None = None,
    ) -> None:
        options = TaskOptions(priority, max_retries, max_duration, partition)
        self._defaults = options.checked()
        self._tasks = LocalTasks(f"local-{next(_sessions)}", self._defaults, self._settle)
        self._waiting: dict[str, list[Future[Any]]] = {}
        super().__init__(
            cast(Client, LocalClient()), cast(Session, LocalSession(options, self._tasks)), keeps_session=False
        )
        self._prefix = self._tasks.session_id

    def cancel_futures(self, futures: Sequence[Future[Any]]) -> int:
        """Cancel nothing: all tasks have ended."""
        return sum(future.cancel_here() for future in futures)

    def flush(self) -> None:
        """Do nothing: all tasks have ended."""

    def close(self, *, cancel: bool = False) -> None:
        """Take no more tasks; may be repeated."""
        self._is_closed = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the cluster."""
        self.close()

    def count(self) -> Count:
        """Return how many tasks were submitted here; all have ended."""
        return self._tasks.count()

    def __repr__(self) -> str:
        """Show the session."""
        return f"<LocalCluster in this process, session {self.session_id!r}{', closed' if self._is_closed else ''}>"

    def _add(self, queued: Sequence[Queued]) -> None:
        if is_in_task():
            raise FutureMisuseError(
                "a function that runs as a task has no cluster: submit with ripieno.current().submit(...), and return the"
                " future"
            )
        for each in queued:
            key = str(each.definition.id)
            self._waiting.setdefault(key, []).extend(each.futures)
            if each.joins and key in self._tasks.results:
                self._settle(key, self._tasks.results[key])
                continue
            payload = cast(bytes, each.definition.payload)
            needed = cast("tuple[str, ...]", each.definition.dependencies)
            options = self._defaults if each.options is None else each.options.checked()
            self._tasks.add([LocalTask(key, payload, (key,), needed, options)])
        try:
            if in_event_loop():
                # A function that is a coroutine function has an event loop of its own, of which a thread has one at a time.
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(self._tasks.run).result()
            else:
                self._tasks.run()
        except BaseException as error:
            # Ctrl-C, or a bug: whoever holds a future is not to wait for ever.
            self._tasks.abandon()
            for future in [future for futures in self._waiting.values() for future in futures]:
                future.fail(error)
            self._waiting.clear()
            raise

    def _settle(self, key: str, result: Result) -> None:
        futures = self._waiting.pop(key, ())
        if not futures:
            return
        if isinstance(result, TaskFailedError):
            error = exception_of(result, *_returned(failures_of(self.session.target, result)))
            for future in futures:
                future.fail(error)
            return
        delivered = Delivered(self, key, result)
        for future in futures:
            future.complete(delivered)


def _returned(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    raise AssertionError("it waits for something")
