"""The waits of the Submitter service: for a result, and for tasks."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from ripieno.control.calls.questions import Questions
from ripieno.control.waiting.watcher import Watcher
from ripieno.control.waiting.watches import Counts, KeysWaiter, TasksWaiter
from ripieno.domain.errors import NotFoundError
from ripieno.domain.filters import TaskFilter
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import FinishedKey, count_numbered, count_tasks, find_tasks, session_numbers

_ERRORS = (TaskStatus.ERROR, TaskStatus.TIMEOUT)
_CANCELLATIONS = (TaskStatus.CANCELLING, TaskStatus.CANCELLED)

#: The most tasks that a call begins to wait for before other calls have their turn on the event loop.
_ADDED_AT_ONCE = 5_000


class Waits:
    """Waits for results and tasks without polling: see ``ripieno.control.waiting.watcher``."""

    def __init__(self, database: Database, watcher: Watcher, questions: Questions) -> None:
        self._database = database
        self._questions = questions
        self._watcher = watcher

    async def availability(self, session_no: int, key: str) -> FinishedKey:
        """Wait until a result is final, and return it, with its data where that is small and at hand.

        Raises:
            NotFoundError: if nobody has announced the key.
            UnavailableError: if the replica is going away, or the database is another incarnation; ask again.
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
        """Wait until all matching tasks are finished, or a flag ends the wait; return the counts of that moment.

        Args:
            stop_on_error: Whether the first task that ends in ERROR or TIMEOUT ends the wait.
            stop_on_cancellation: Whether the first task that is cancelled, or is being cancelled, ends the wait.

        Raises:
            UnavailableError: if the replica is going away, or the database is another incarnation; ask again.
            OverloadedError: if the filter names many ids, and other such calls kept it from its first look.
        """
        stops = frozenset((_ERRORS if stop_on_error else ()) + (_CANCELLATIONS if stop_on_cancellation else ()))
        enough = partial(_enough, stops)
        by_tasks: Mapping[int, Sequence[int]] | None = None
        ids = which.task_ids or which.session_ids or ()
        async with self._questions.turn(len(ids), sum(map(len, ids))):
            counts = await count_tasks(self._database, which)
            if enough(counts):
                return counts
            if which.task_ids is not None and which.statuses is None:
                by_tasks = await self._by_session(which.task_ids)
        if which.session_ids is not None:
            return await self._by_sessions(which, enough)
        if by_tasks is not None:
            return await self._by_tasks(by_tasks, stops)
        return await self._by_looking(which, enough)

    async def _by_sessions(self, which: TaskFilter, enough: Callable[[Counts], bool]) -> Counts:
        """Wait for the tasks of whole sessions, by a watch that all waits for the same sessions share."""

        def matching(counts: Counts) -> Counts:
            return {status: n for status, n in counts.items() if which.statuses is None or status in which.statuses}

        with self._watcher.promised() as answer:
            sessions = await session_numbers(self._database, which.session_ids or ())
            with self._watcher.counts(sessions) as watch:
                return matching(await watch.wait(lambda counts: enough(matching(counts)), answer))

    async def _by_session(self, task_ids: Sequence[str]) -> Mapping[int, Sequence[int]]:
        """Return the numbers of tasks by their session, which is all that is kept of them while their call waits."""
        found = await find_tasks(self._database, task_ids)
        by_session: dict[int, list[int]] = {}
        for session_no, task_no in sorted({(task.session_no, task.task_no) for task in found.values()}):
            by_session.setdefault(session_no, []).append(task_no)
        return by_session

    async def _by_tasks(self, by_session: Mapping[int, Sequence[int]], stops: frozenset[TaskStatus]) -> Counts:
        """Wait for single tasks; for one that was retried when it had ended, until it has ended again."""
        numbers = [number for of_session in by_session.values() for number in of_session]
        while True:
            await self._each_ended(by_session, stops)
            counts = await count_numbered(self._database, numbers)
            if _enough(stops, counts):
                return counts

    async def _each_ended(self, by_session: Mapping[int, Sequence[int]], stops: frozenset[TaskStatus]) -> None:
        """Wait until each of the tasks has ended once, by watches that all such waits in the same session share."""
        left = sum(map(len, by_session.values()))

        def stop() -> None:
            if not stopped.done():
                stopped.set_result(True)

        def deliver(ended: Sequence[tuple[int, TaskStatus]]) -> None:
            nonlocal left
            left -= len(ended)  # each task is delivered once
            if not left or any(status in stops for _, status in ended):
                stop()

        with ExitStack() as watches:
            stopped = watches.enter_context(self._watcher.promised())
            for session_no, numbers in by_session.items():
                watch, waiter = watches.enter_context(self._watcher.tasks(session_no)), TasksWaiter(deliver)
                watches.callback(watch.remove, waiter)
                for start in range(0, len(numbers), _ADDED_AT_ONCE):
                    part = numbers[start : start + _ADDED_AT_ONCE]
                    watch.add(waiter, part, stop if TaskStatus.CANCELLING in stops else None)
                    await asyncio.sleep(0)  # other calls have their turn
            await stopped

    async def _by_looking(self, which: TaskFilter, enough: Callable[[Counts], bool]) -> Counts:
        """Wait for tasks that are given by id and filtered by status, by a look of the wait's own."""
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
