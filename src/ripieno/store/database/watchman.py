"""Notices a database that has grown silent, and ends the sessions that wait for it.

A long statement and a dead connection look alike from one end: nothing comes. The difference
is asked for over another, new session. If the server says that the process behind a session
works, the statement is left alone; if it says that the process is idle or gone, the answer has
been lost on the way (a host that vanished, a network that drops packets, a proxy that hangs);
if the server says nothing at all, it hangs or is gone. In the latter two cases the session is
ended: whoever waits is told so within ten seconds, and may try again on a new one.

Time-outs of TCP (``store.database.connections``) find most of this too, but not a server process that
was stopped, nor anything behind a proxy.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

from ripieno.background import Loop
from ripieno.domain.errors import RipienoError
from ripieno.store.database.connections import STATEMENT_S, Connection
from ripieno.store.database.faults import ConnectionLostError

_log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0

#: After a statement has taken so long the server is asked about it.
_SUSPICIOUS_S = 3.0

#: How long the server may take to answer that, a new session included.
_ANSWER_S = 4.0

#: A turn that begins so late proves nothing about others: we were asleep ourselves.
_OVERSLEPT_S = 1.0

#: Beyond the server's own limit for a statement.
_MARGIN_S = 5.0

#: Processes that are at work (a server that does not track activities is believed).
_WORKING = """
select pid from pg_stat_activity
where pid = any($1::int[]) and coalesce(state, 'disabled') in ('active', 'fastpath function call', 'disabled')
"""


class Watchman:
    """Watches the sessions of one ``Database``.

    Args:
        sessions: Returns those that are open now.
        connect: Opens another session, to ask.
        silent: Called when a session was ended for its silence: the idle ones that were opened
            in the same days share its fate.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[Connection]],
        connect: Callable[[], Awaitable[Connection]],
        silent: Callable[[], None],
    ) -> None:
        self._sessions = sessions
        self._connect = connect
        self._silent = silent
        self._loop = Loop("watching over the database's connections", self._look, every_s=_LOOK_EVERY_S)
        #: Sessions of which the server said that nothing is under way, with that statement's number.
        self._idle_there: dict[Connection, int] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._loop.run()

    async def _look(self) -> None:
        now = time.monotonic()
        busy = [
            session
            for session in self._sessions()
            if session.busy_since is not None and now - session.busy_since > _SUSPICIOUS_S
        ]
        if not busy or self._loop.late_s > _OVERSLEPT_S:
            self._idle_there.clear()
            return
        asked = {session: session.statement_no for session in busy}
        working = await self._working([session.pid for session in busy])
        still = [session for session, number in asked.items() if session.statement_no == number and session.busy_since]
        if working is None:
            lost = still
        else:
            idle = {session: asked[session] for session in still if session.pid not in working}
            # The answer may be on its way: it is lost when the server says so twice.
            lost = [session for session, number in idle.items() if self._idle_there.get(session) == number]
            now = time.monotonic()
            lost += [s for s in still if s.busy_since and now - s.busy_since > STATEMENT_S + _MARGIN_S]
            self._idle_there = idle
        if lost:
            _log.warning("connections to the database have gone silent; closed", connections=len(lost))
            for session in lost:
                session.terminate()
            self._silent()

    async def _working(self, pids: list[int]) -> set[int] | None:
        """Which of the server's processes are at work; None if it does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                session = await self._connect()
                try:
                    return {row["pid"] for row in await session.fetch(_WORKING, pids)}
                finally:
                    session.terminate()
        except (ConnectionLostError, TimeoutError):
            return None
        except RipienoError:
            return set(pids)  # whatever it says, it answers
