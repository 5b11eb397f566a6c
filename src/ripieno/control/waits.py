"""The waits of the Submitter: for a result, and for tasks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ripieno.control.watcher import Watcher
from ripieno.domain.errors import NotFoundError
from ripieno.domain.filters import TaskFilter
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.database import Database
from ripieno.store.lookup import FinishedKey, count_numbered, count_tasks, find_tasks, session_numbers

Counts = Mapping[TaskStatus, int]

_ERRORS = (TaskStatus.ERROR, TaskStatus.TIMEOUT)
_CANCELLATIONS = (TaskStatus.CANCELLING, TaskStatus.CANCELLED)


class Waits:
    """Waits without polling: see ``ripieno.control.watcher``."""

    def __init__(self, database: Database, watcher: Watcher) -> None:
        self._database = database
        self._watcher = watcher

    async def availability(self, session_no: int, key: str) -> FinishedKey:
        """Wait until a result is final; its bytes come along where they are small.

        Raises:
            NotFoundError: nobody has announced the key.
        """
        arrived: asyncio.Future[FinishedKey] = asyncio.get_running_loop().create_future()

        def deliver(finished: Sequence[FinishedKey]) -> None:
            if not arrived.done():
                arrived.set_result(finished[0])

        with self._watcher.keys(session_no) as watch:
            watch.add([key], deliver)
            try:
                finished = await arrived
            finally:
                watch.remove(deliver)
        if finished.status is ResultStatus.NAMED:
            raise NotFoundError(f"result {key!r} does not exist in this session")
        return finished

    async def completion(self, which: TaskFilter, *, stop_on_error: bool, stop_on_cancellation: bool) -> Counts:
        """Wait until all matching tasks are finished, or a flag stops it; return the counts of that moment."""
        stops = (_ERRORS if stop_on_error else ()) + (_CANCELLATIONS if stop_on_cancellation else ())

        def enough(counts: Counts) -> bool:
            return all(status.final for status in counts) or any(status in counts for status in stops)

        counts = await count_tasks(self._database, which)
        if enough(counts):
            return counts
        if which.session_ids is not None and which.statuses is None:
            with self._watcher.counts(await session_numbers(self._database, which.session_ids)) as watch:
                return await watch.wait(enough)
        return await self._look_until(which, enough)

    async def _look_until(self, which: TaskFilter, enough: Callable[[Counts], bool]) -> Counts:
        """Waits whose filter names tasks or statuses: each has a look of its own."""
        sessions, read = await self._question(which)
        answer: asyncio.Future[Counts] = asyncio.get_running_loop().create_future()

        async def look() -> None:
            counts = await read()
            if enough(counts) and not answer.done():
                answer.set_result(counts)

        with self._watcher.looks(sessions, look):
            return await answer

    async def _question(self, which: TaskFilter) -> tuple[Sequence[int], Callable[[], Awaitable[Counts]]]:
        if which.task_ids is None or which.statuses is not None:
            sessions = await session_numbers(self._database, which.session_ids or ())
            if which.task_ids is not None:
                found = await find_tasks(self._database, which.task_ids)
                sessions = list({task.session_no for task in found.values()})
            return sessions, lambda: count_tasks(self._database, which)
        found = await find_tasks(self._database, which.task_ids)
        numbers = list({task.task_no for task in found.values()})
        return list({t.session_no for t in found.values()}), lambda: count_numbered(self._database, numbers)
