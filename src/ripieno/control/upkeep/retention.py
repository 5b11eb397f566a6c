"""Retention: one replica at a time purges and deletes the sessions that ended long ago."""

from collections.abc import AsyncIterator

from ripieno.background import Loop
from ripieno.config import ControlSettings
from ripieno.control.upkeep.background import Background
from ripieno.domain.statuses import SessionStep
from ripieno.store.database.database import Database
from ripieno.store.life.retention import alone, forget_deleted, note_ended, retain
from ripieno.store.sessions.changes import Changes

#: Seconds between two looks; the time at which a session ended is as exact as that.
LOOK_EVERY_S = 30.0


class Retention:
    """Purges and deletes sessions as the settings say (``purge_after_s``, ``delete_after_s``)."""

    def __init__(
        self, settings: ControlSettings, database: Database, background: Background, every_s: float = LOOK_EVERY_S
    ) -> None:
        self._steps = [
            (step, after_s)
            for step, after_s in (
                (SessionStep.DELETE, settings.delete_after_s),
                (SessionStep.PURGE, settings.purge_after_s),
            )
            if after_s is not None
        ]
        self._database = database
        self._background = background
        self._session = database.own_session()
        # It can wait: a fault of it does not make the replica unready.
        self._loop = Loop("purging and deleting sessions", self._look, every_s=every_s, at_once=True)

    async def run(self) -> None:
        """Look until cancelled."""
        await self._loop.run()

    async def _look(self) -> None:
        async with alone(self._session) as ours:
            if ours:
                await self._background.finish(self._work())

    async def _work(self) -> AsyncIterator[Changes]:
        await forget_deleted(self._database)
        if self._steps:
            await note_ended(self._database)
        for step, after_s in self._steps:
            async for changes in retain(self._database, step, after_s):
                yield changes
