"""The watchman: notices a database that has become silent, and ends the sessions that wait for it.

The client cannot tell a long statement from a dead connection: no answer comes in either case. So the
watchman asks the server over a new session. If the server says that the process of a session
works, the statement is left alone; if it says that the process is idle or gone, the answer was
lost on the way (a host that vanished, a network that drops packets, a proxy that hangs);
if the server does not answer at all, it hangs or is gone. In the latter two cases the session is
ended: its user gets an error within ten seconds, and may try again on a new session.

TCP time-outs (``store.database.connections``) detect most of these faults, too, but neither a server process that
was stopped nor anything behind a proxy.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

from ripieno.background import Loop
from ripieno.domain.errors import RipienoError
from ripieno.store.database.connections import STATEMENT_S, Connection
from ripieno.store.database.faults import ConnectionLostError
from ripieno.store.database.queries import Queries

_log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0

#: The server is asked about a statement that has taken longer than this.
_SUSPICIOUS_S = 3.0

#: How long the server may take to answer, including the time to open a session.
_ANSWER_S = 4.0

#: A look that begins later than this is skipped: this process was asleep, and silence proves nothing.
_OVERSLEPT_S = 1.0

#: Time beyond the server's own limit for a statement after which its session is ended in any case.
_MARGIN_S = 5.0

_SQL = Queries("connections")


class Watchman:
    """Watches the sessions of one ``Database``.

    Args:
        sessions: Returns the sessions that are open now.
        connect: Opens the session over which the server is asked.
        silent: Called when a session was ended for its silence, to close idle sessions, too: what broke one
            connection probably broke them.
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
        #: Sessions of which the server said last that they are idle, each with the number of its statement.
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
            # The answer may still be on its way; it counts as lost if the server says twice that the session is idle.
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
        """Return those of the server's processes that are at work; None if the server does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                session = await self._connect()
                try:
                    return {row["pid"] for row in await session.fetch(_SQL.working, pids)}
                finally:
                    session.terminate()
        except (ConnectionLostError, TimeoutError):
            return None
        except RipienoError:
            return set(pids)  # an error is an answer, so the server is not silent
