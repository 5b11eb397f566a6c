"""The waits of the Submitter: for a result, and for tasks."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from ripieno.control.watcher import Watcher
from ripieno.control.watches import Counts, KeysWaiter, TasksWaiter
from ripieno.domain.errors import NotFoundError
from ripieno.domain.filters import TaskFilter
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.database import Database
from ripieno.store.lookup import FinishedKey, FoundTask, count_numbered, count_tasks, find_tasks, session_numbers

_ERRORS = (TaskStatus.ERROR, TaskStatus.TIMEOUT)
_CANCELLATIONS = (TaskStatus.CANCELLING, TaskStatus.CANCELLED)


class Waits:
    """Waits without polling: see ``ripieno.control.watcher``."""

    def __init__(self, database: Database, watcher: Watcher) -> None:
        self._database = database
        self._watcher = watcher

    async def availability(self, session_no: int, key: str) -> FinishedKey:
        """Wait until a result is final; its bytes come along where they are small and at hand.

        Raises:
            NotFoundError: nobody has announced the key.
            UnavailableError: the replica is going away; ask again.
        """
        arrived: asyncio.Future[FinishedKey] = self._watcher.promise()

        def deliver(finished: Sequence[FinishedKey]) -> None:
            if not arrived.done():
                arrived.set_result(finished[0])

        waiter = KeysWaiter(deliver)
        with self._watcher.keys(session_no) as watch:
            watch.add(waiter, [key])
            try:
                finished = await arrived
            finally:
                watch.remove(waiter)
        if finished.status is ResultStatus.NAMED:
            raise NotFoundError(f"result {key!r} does not exist in this session")
        return finished

    async def completion(self, which: TaskFilter, *, stop_on_error: bool, stop_on_cancellation: bool) -> Counts:
        """Wait until all matching tasks are finished, or a flag stops it; return the counts of that moment.

        Raises:
            UnavailableError: the replica is going away; ask again.
        """
        stops = frozenset((_ERRORS if stop_on_error else ()) + (_CANCELLATIONS if stop_on_cancellation else ()))
        enough = partial(_enough, stops)
        counts = await count_tasks(self._database, which)
        if enough(counts):
            return counts
        if which.session_ids is not None:
            return await self._by_sessions(which, enough)
        if which.statuses is None:
            return await self._by_tasks(which.task_ids or (), stops)
        return await self._by_looking(which, enough)

    async def _by_sessions(self, which: TaskFilter, enough: Callable[[Counts], bool]) -> Counts:
        """Shared with all who wait for the same sessions."""

        def matching(counts: Counts) -> Counts:
            return {status: n for status, n in counts.items() if which.statuses is None or status in which.statuses}

        answer: asyncio.Future[Counts] = self._watcher.promise()
        with self._watcher.counts(await session_numbers(self._database, which.session_ids or ())) as watch:
            return matching(await watch.wait(lambda counts: enough(matching(counts)), answer))

    async def _by_tasks(self, task_ids: Sequence[str], stops: frozenset[TaskStatus]) -> Counts:
        """Shared with all who wait for single tasks of the same sessions."""
        tasks = {task.task_no: task for task in (await find_tasks(self._database, task_ids)).values()}
        stopped: asyncio.Future[bool] = self._watcher.promise()
        left = set(tasks)

        def stop() -> None:
            if not stopped.done():
                stopped.set_result(True)

        def deliver(ended: Sequence[tuple[int, TaskStatus]]) -> None:
            left.difference_update(task_no for task_no, _ in ended)
            if not left or any(status in stops for _, status in ended):
                stop()

        with self._waiting_for(tasks.values(), deliver, stop if TaskStatus.CANCELLING in stops else None):
            await stopped
        return await count_numbered(self._database, list(tasks))

    @contextmanager
    def _waiting_for(
        self,
        tasks: Iterable[FoundTask],
        deliver: Callable[[Sequence[tuple[int, TaskStatus]]], None],
        at_cancelling: Callable[[], None] | None,
    ) -> Iterator[None]:
        by_session: dict[int, list[int]] = {}
        for task in tasks:
            by_session.setdefault(task.session_no, []).append(task.task_no)
        with ExitStack() as watches:
            for session_no, numbers in by_session.items():
                watch, waiter = watches.enter_context(self._watcher.tasks(session_no)), TasksWaiter(deliver)
                watches.callback(watch.remove, waiter)
                watch.add(waiter, numbers, at_cancelling)
            yield

    async def _by_looking(self, which: TaskFilter, enough: Callable[[Counts], bool]) -> Counts:
        """Tasks by id whose status matters: each such wait has a look of its own."""
        found = await find_tasks(self._database, which.task_ids or ())
        answer: asyncio.Future[Counts] = self._watcher.promise()

        async def look() -> None:
            counts = await count_tasks(self._database, which)
            if enough(counts) and not answer.done():
                answer.set_result(counts)

        with self._watcher.looks(sorted({task.session_no for task in found.values()}), look):
            return await answer


def _enough(stops: frozenset[TaskStatus], counts: Counts) -> bool:
    return all(status.final for status in counts) or any(status in counts for status in stops)
