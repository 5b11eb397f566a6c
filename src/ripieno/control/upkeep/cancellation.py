"""Cancellation of sessions and tasks: after the reply no cancelled attempt starts or commits.

The store refuses commits from the moment of the cancellation. An attempt that an agent holds but
has not begun might still begin: the reply waits until the agent has said of each such
attempt that it is over, or that it had begun before (and is being interrupted). If the agent is
lost meanwhile, the rescue of its attempts ends the wait too.

This holds for every call, whichever cancelled the tasks: the attempts that a reply waits for are
read from the store (``store.attempts.confirmations``). A call whose caller goes away in the middle is
finished all the same, since a cancellation that is committed must be told; and a notice that
was lost is told again by ``control.agents.reminders``.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from ripieno.control.upkeep.background import Background
from ripieno.control.waiting.watcher import Watcher
from ripieno.domain.filters import TaskFilter
from ripieno.store.attempts.confirmations import unconfirmed_in_sessions, unconfirmed_of_tasks
from ripieno.store.database.database import Database
from ripieno.store.graph.cancel import UNFINISHED, cancel_session, cancel_sessions_tasks, cancel_tasks
from ripieno.store.reading.lookup import find_tasks, session_numbers
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import Sessions


class Cancellation:
    """Cancels sessions and tasks."""

    def __init__(self, database: Database, sessions: Sessions, background: Background, watcher: Watcher) -> None:
        self._database = database
        self._sessions = sessions
        self._background = background
        self._watcher = watcher

    async def session(self, session_id: str) -> None:
        """Cancel a session. Idempotent; returns when none of its cancelled attempts can begin any more.

        Raises:
            NotFoundError: if there is no such session.
            UnavailableError: if the replica is going away, or the database is another incarnation; ask again.
        """
        session = await self._sessions.find(session_id)
        session_no = session.session_no
        await self._to_the_end(cancel_session(self._database, session_no, session.incarnation))
        await self._confirmed([session_no], lambda: unconfirmed_in_sessions(self._database, [session_no]))

    async def tasks(self, which: TaskFilter) -> None:
        """Cancel the matching unfinished tasks. Idempotent; returns when none of their cancelled attempts can begin.

        Raises:
            UnavailableError: if the replica is going away, or the database is another incarnation; ask again.
        """
        statuses = UNFINISHED if which.statuses is None else sorted(which.statuses.intersection(UNFINISHED))
        if which.task_ids is None:
            sessions = await session_numbers(self._database, which.session_ids or ())
            await self._to_the_end(cancel_sessions_tasks(self._database, sessions, statuses))
            await self._confirmed(sessions, lambda: unconfirmed_in_sessions(self._database, sessions))
        else:
            found = (await find_tasks(self._database, which.task_ids)).values()
            numbers = [task.task_no for task in found]
            await self._to_the_end(cancel_tasks(self._database, numbers, statuses))
            sessions = [task.session_no for task in found]
            await self._confirmed(sessions, lambda: unconfirmed_of_tasks(self._database, numbers))

    async def _to_the_end(self, steps: AsyncIterator[Changes]) -> None:
        """Run a cancellation in the store and publish each step, even if the caller goes away meanwhile."""
        await self._background.finish(steps)

    async def _confirmed(self, sessions: Iterable[int], unconfirmed: Callable[[], Awaitable[int]]) -> None:
        """Wait until ``unconfirmed`` returns 0: no cancelled attempt can begin any more.

        Args:
            sessions: Sessions whose changes cause another look.
            unconfirmed: Counts the cancelled attempts that may still begin.
        """
        if not await unconfirmed():
            return
        stopped: asyncio.Future[None] = self._watcher.promise()

        async def look() -> None:
            if not await unconfirmed() and not stopped.done():
                stopped.set_result(None)

        with self._watcher.looks(sorted(set(sessions)), look):
            await stopped
