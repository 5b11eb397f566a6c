"""Retries of failed tasks: after the reply everything below them that can wait again does.

A call whose caller goes away in the middle is finished all the same. One that the database interrupts leaves a
graph that is revived in part; the cutter goes on with it, as with that of a replica that has ended.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ripieno.control.calls.limits import ControlLimits, check_options
from ripieno.control.upkeep.background import Background
from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import SubmissionStoppedError
from ripieno.domain.options import OptionChanges, TaskOptions
from ripieno.domain.queries import Condition, Filter, Operator, Query, check_query
from ripieno.domain.statuses import TaskStatus
from ripieno.domain.timers import DELAY
from ripieno.store.database.database import Database
from ripieno.store.graph import revivals
from ripieno.store.graph.revivals import FailedTask, Revived
from ripieno.store.reading.lists import Lists
from ripieno.store.reading.lookup import FoundTask, find_tasks
from ripieno.store.reading.reasons import causes
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.counts import read_counts
from ripieno.store.sessions.sessions import KnownSession, Sessions

#: Tasks that are named, with the reason, as not retried.
MOST_NAMED = 1_000

#: Characters of a reason; a longer one loses its end.
_LONGEST_REASON = 1_000

#: Tasks of a page of those that match a filter.
_PAGE = 2_000

_FAILED = (TaskStatus.ERROR, TaskStatus.TIMEOUT)

#: Tasks that failed by themselves, and numbers of those that failed for want of an input.
Page = tuple[list[FailedTask], list[int]]


@dataclass(slots=True)
class Retried:
    """What a retry has done.

    Attributes:
        retried: How many tasks have another attempt.
        revived: How many tasks below them wait again.
        reasons: Why tasks are not retried, by id, for the first ``MOST_NAMED`` of them.
        not_retried: How many tasks are not.
    """

    retried: int = 0
    revived: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    not_retried: int = 0

    def refuse(self, task_id: str, reason: str) -> None:
        """Note a task that is not retried."""
        self.not_retried += 1
        if len(self.reasons) < MOST_NAMED:
            self.reasons[task_id] = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} [...]"


class Retries:
    """Retries tasks."""

    def __init__(
        self, limits: ControlLimits, database: Database, sessions: Sessions, lists: Lists, background: Background
    ) -> None:
        self._limits = limits
        self._lists = lists
        self._database = database
        self._sessions = sessions
        self._background = background

    async def tasks(self, ids: Iterable[str], session_id: str, changes: OptionChanges | None) -> Retried:
        """Retry tasks that failed by themselves; returns when what is below them waits again.

        Args:
            ids: Ids of the tasks.
            session_id: Their session; empty if they may be of any.
            changes: What is different in their options.

        Raises:
            NotFoundError: if there is no such session.
            SubmissionStoppedError: if that session was cancelled or purged.
            LimitError: if the changed options are too large, or too many sets for a session, which is left as it is.
            UnavailableError: if the replica is going away, or the database is another incarnation; ask again.
        """
        retried = Retried()
        began = await revivals.present(self._database)
        only = await self._sessions.find(session_id) if session_id else None
        asked = list(dict.fromkeys(ids))
        found = await find_tasks(self._database, [each for each in asked if "\0" not in each])
        by_session: dict[int, dict[int, FoundTask]] = {}
        for each in asked:
            if each not in found:
                retried.refuse(each, "there is no such task")
            elif only is not None and found[each].session_no != only.session_no:
                retried.refuse(each, f"it is not a task of session {session_id!r}")
            else:
                by_session.setdefault(found[each].session_no, {})[found[each].task_no] = found[each]
        for session_no, tasks in sorted(by_session.items()):
            session = await self._sessions.by_number(session_no)
            failed = await revivals.failed_of(self._database, sorted(tasks))
            try:
                again = await self._retry(session, failed, changes, retried)
            except SubmissionStoppedError as error:
                if only is not None:
                    raise
                for task in tasks.values():
                    retried.refuse(task.id, error.detail)
            else:
                await self._revive(session, retried)
                await self._explain([task for task in tasks.values() if task.task_no not in again], began, retried)
        return retried

    async def failed(self, session_id: str, matching: Filter | None, changes: OptionChanges | None) -> Retried:
        """Retry the tasks of a session that failed by themselves; returns when what is below them waits again.

        Args:
            session_id: The session.
            matching: Filter of the list of tasks that they match; None for all.
            changes: What is different in their options.

        Raises:
            InvalidRequestError: if the filter is none.
            NotFoundError: if there is no such session.
            SubmissionStoppedError: if the session was cancelled or purged, and has such a task.
            LimitError: if the changed options are too large, or too many sets for the session, or the filter takes
                too long; tasks that were submitted before those that are concerned may have been retried.
            UnavailableError: as for ``tasks``.
        """
        retried = Retried()
        began = await revivals.present(self._database)
        session = await self._sessions.find(session_id)
        async for failed, _ in self._pages(session, matching):
            await self._retry(session, failed, changes, retried)
        await self._revive(session, retried)
        counts = await read_counts(self._database, [session.session_no])
        if any(counts.get(status) for status in _FAILED):
            async for failed, others in self._pages(session, matching):
                numbers = sorted([*(task.task_no for task in failed), *others])
                await self._explain_inputs(numbers, began, retried)
        return retried

    def _pages(self, session: KnownSession, matching: Filter | None) -> AsyncIterator[Page]:
        if matching is None:
            return revivals.failed_in_session(self._database, session.session_no)
        return self._matching(session, matching)

    async def _matching(self, session: KnownSession, matching: Filter) -> AsyncIterator[Page]:
        """Yield failed tasks of a session that match, a page at a time, in the order of their numbers."""
        own = [Condition("session_id", Operator.EQUAL, session.id)]
        any_of = [
            [*all_of, *own, Condition("status", Operator.EQUAL, status.name)]
            for all_of in (matching or [[]])
            for status in _FAILED
        ]
        query = Query(Listed.TASKS, any_of, fields=["number"], page_size=_PAGE)
        cursor: str | None = ""
        while cursor is not None:
            page = await self._lists.page(check_query(replace(query, cursor=cursor)))
            numbers = [row["number"] for row in page.rows]
            failed = await revivals.failed_of(self._database, numbers)
            yield failed, sorted(set(numbers).difference(task.task_no for task in failed))
            cursor = page.next_cursor or None

    async def _retry(
        self, session: KnownSession, failed: Sequence[FailedTask], changes: OptionChanges | None, retried: Retried
    ) -> set[int]:
        """Retry tasks of a session; return the numbers of those that have another attempt."""
        if changes is not None:

            def changed(options: TaskOptions) -> TaskOptions:
                new = changes.applied_to(options)
                check_options(self._limits, new)
                return new

            failed = await revivals.with_changes(self._database, self._sessions, session, failed, changed)
        delayed = changes is not None and DELAY in changes.options
        again: set[int] = set()

        async def steps() -> AsyncIterator[Revived]:
            async for step in revivals.retry_tasks(self._database, session, failed, delayed=delayed):
                again.update(step.retried)
                yield step

        await self._background.finish(self._counted(steps(), retried))
        return again

    async def _revive(self, session: KnownSession, retried: Retried) -> None:
        """Revive what is below retried tasks, as far as the steps that retried them have not."""
        await self._background.finish(self._counted(revivals.finish(self._database, [session.session_no]), retried))

    async def _counted(self, steps: AsyncIterator[Revived], retried: Retried) -> AsyncIterator[Changes]:
        """Count what steps do, and yield the changes of each."""
        async for step in steps:
            retried.retried += len(step.retried)
            retried.revived += step.dependents
            step.changes.revivals.clear()  # this call goes on with them itself
            yield step.changes

    async def _explain(self, tasks: Iterable[FoundTask], began: datetime, retried: Retried) -> None:
        """Note why tasks have no other attempt; they are as they were before."""
        failed: list[int] = []
        for task in tasks:
            if task.status in _FAILED:
                failed.append(task.task_no)
            else:
                retried.refuse(task.id, f"it is {task.status.name}; only tasks in ERROR or TIMEOUT are retried")
        await self._explain_inputs(failed, began, retried)

    async def _explain_inputs(self, tasks: Sequence[int], began: datetime, retried: Retried) -> None:
        """Note those of the tasks that are still failed, for want of an input; the others were retried or revived."""
        left = await revivals.still_failed(self._database, tasks, began)
        why = await causes(self._database, list(left)[: max(0, MOST_NAMED - len(retried.reasons))])
        for number, task_id in left.items():
            retried.refuse(task_id, f"it cannot run: {why.get(number, '')}")
