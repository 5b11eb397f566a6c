"""Cancelling, and the promise that after the reply nothing cancelled starts or commits.

The store refuses commits from the moment of the cancellation. What an agent has in hand but
has not begun might still begin: the reply waits until the agent has said of each such
attempt that it is over, or that it had begun before (and is being interrupted). An agent
that is lost meanwhile is rescued from, which ends the wait too.
"""

import asyncio
from collections.abc import Sequence

from ripieno.control.notices import Notices
from ripieno.control.watcher import Watcher
from ripieno.domain.filters import TaskFilter
from ripieno.store.cancel import cancel_session, cancel_tasks, not_yet_stopped
from ripieno.store.changes import Changes
from ripieno.store.database import Database
from ripieno.store.lookup import list_tasks
from ripieno.store.sessions import Sessions


class Cancellation:
    """Cancels sessions and tasks."""

    def __init__(self, database: Database, sessions: Sessions, notices: Notices, watcher: Watcher) -> None:
        self._database = database
        self._sessions = sessions
        self._notices = notices
        self._watcher = watcher

    async def session(self, session_id: str) -> None:
        """Cancel a session. Idempotent.

        Raises:
            NotFoundError: no such session.
        """
        session = await self._sessions.find(session_id)
        await self._finish(await cancel_session(self._database, session.session_no))

    async def tasks(self, which: TaskFilter) -> None:
        """Cancel the matching tasks that are unfinished. Idempotent."""
        found: Sequence[tuple[int, int, str]] = await list_tasks(self._database, which)
        if found:
            numbers = [(session_no, task_no) for session_no, task_no, _ in found]
            await self._finish(await cancel_tasks(self._database, numbers))

    async def _finish(self, changes: Changes) -> None:
        attempts = [ticket for _, ticket in changes.cancelled]
        stopped = asyncio.Event()

        async def look() -> None:
            if not await not_yet_stopped(self._database, attempts):
                stopped.set()

        if not attempts:
            self._notices.publish(changes)
            return
        with self._watcher.looks(sorted({ticket.session_no for ticket in attempts}), look):
            self._notices.publish(changes)
            await stopped.wait()
