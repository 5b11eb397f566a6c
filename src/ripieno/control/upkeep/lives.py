"""Steps of sessions' lives: pausing, resuming, closing, purging, deleting; and those that nobody goes on with.

A step is finished although its caller goes away. Replies to PURGE and DELETE come when the status has changed,
which nothing undoes: the data, or the rows, go afterwards, and may take minutes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import structlog

from ripieno.background import Health, Loop
from ripieno.control.upkeep.background import Background
from ripieno.control.upkeep.cancellation import Cancellation
from ripieno.domain.errors import NotFoundError, SessionStepError
from ripieno.domain.statuses import SessionStep
from ripieno.store.database.database import Database
from ripieno.store.life.lives import AbandonedSweeps, follow, is_deleted, stop_submission, take
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import KnownSession, Sessions

_log = structlog.get_logger(__name__)

#: Seconds between two looks for sweeps that nobody goes on with; a replica that works on one moves it many times meanwhile.
LOOK_EVERY_S = 5.0

#: Steps whose reply does not wait for what follows.
_LATER = frozenset({SessionStep.PURGE, SessionStep.DELETE})


class Lives:
    """Takes steps of sessions' lives."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        background: Background,
        cancellation: Cancellation,
        health: Health | None = None,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._background = background
        self._cancellation = cancellation
        self._abandoned = AbandonedSweeps(database)
        self._looks = Loop("looking for abandoned sweeps", self._look, every_s=LOOK_EVERY_S, health=health)

    async def run(self) -> None:
        """Look for abandoned sweeps until cancelled."""
        await self._looks.run()

    async def step(self, session_id: str, step: SessionStep) -> None:
        """Take a step of a session's life. May be repeated.

        Raises:
            NotFoundError: there is no such session. (One that was deleted may be deleted again.)
            SessionStepError: the session's status does not allow the step; nothing was changed.
            UnavailableError: the replica is going away, or the database is another incarnation; ask again.
        """
        if step is SessionStep.CANCEL:
            await self._cancellation.session(session_id)
            return
        if step is SessionStep.DELETE:
            try:
                with suppress(SessionStepError):  # it was purged, and has nothing unfinished
                    await self._cancellation.session(session_id)
            except NotFoundError:
                if await is_deleted(self._database, session_id):
                    return
                raise
        session = await self._sessions.find(session_id)
        taken = asyncio.Event()
        begun = self._background.begin(self._steps(session, step, taken))
        if step in _LATER:
            await _first(begun, taken)
            if not begun.done():
                return  # should what follows fail, it is found abandoned
        if (error := await asyncio.shield(begun)) is not None:
            raise error

    async def _steps(self, session: KnownSession, step: SessionStep, taken: asyncio.Event) -> AsyncIterator[Changes]:
        changes, sweep = await take(self._database, session.session_no, step, session.incarnation)
        yield changes
        taken.set()
        if sweep is not None:
            async for more in follow(self._database, sweep):
                yield more

    async def stop_submission(self, session_id: str, *, client: bool, worker: bool) -> None:
        """Stop submission by clients, by workers or both, for good.

        Raises:
            NotFoundError: there is no such session.
        """
        session = await self._sessions.find(session_id)

        async def stop() -> AsyncIterator[Changes]:
            yield await stop_submission(
                self._database, session.session_no, client=client, worker=worker, incarnation=session.incarnation
            )

        await self._background.finish(stop())

    async def _look(self) -> None:
        errors: list[Exception] = []
        for sweep in await self._abandoned.look():
            _log.info("going on with a sweep that nobody works on", session_no=sweep.session_no, kind=sweep.kind.value)
            try:
                await self._background.finish(follow(self._database, sweep))
            except Exception as error:  # noqa: BLE001 - a fault of one must not hold up the others
                errors.append(error)
        if errors:
            raise errors[0]


async def _first(work: "asyncio.Task[Exception | None]", event: asyncio.Event) -> None:
    """Wait until work is done, or an event is set."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
