"""Goes on with cuts that a transaction has begun, step by step, and with what others left in the middle.

Each session takes its turn, however much there is to cut in one of them; between two steps
whoever waits at a gate comes through (``store.turns``).
"""

import asyncio

from ripieno.background import Health, Loop
from ripieno.control.notices import Notices
from ripieno.store import cuts
from ripieno.store.abandoned import Abandoned
from ripieno.store.cancel import cancel_session
from ripieno.store.changes import Changes
from ripieno.store.database import Database

#: Between two looks for what nobody works on; who works on something moves it many times meanwhile.
LOOK_EVERY_S = 5.0


class Cutter:
    """The cuts of one replica."""

    def __init__(self, database: Database, notices: Notices, health: Health | None = None) -> None:
        self._database = database
        self._notices = notices
        self._waiting: dict[int, None] = {}
        self._abandoned = Abandoned(database)
        self._cuts = Loop("cutting graphs", self._cut, every_s=LOOK_EVERY_S, health=health)
        self._looks = Loop("looking for abandoned cuts", self._look, every_s=LOOK_EVERY_S, health=health)

    def changed_here(self, changes: Changes) -> None:
        """A transaction of this replica has committed."""
        if changes.cuts:
            self._waiting.update(dict.fromkeys(changes.cuts))
            self._cuts.wake()

    async def run(self) -> None:
        """Cut until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cuts.run())
            group.create_task(self._looks.run())

    async def _cut(self) -> None:
        while self._waiting:
            session_no = next(iter(self._waiting))
            del self._waiting[session_no]
            try:
                changes = await cuts.step(self._database, session_no)
            except BaseException:
                self._waiting[session_no] = None  # behind the others, which it must not hold up
                raise
            self._notices.publish(changes)  # which puts it behind the others, if more is left to do

    async def _look(self) -> None:
        found = await self._abandoned.look()
        self._waiting.update(dict.fromkeys(found.cuts))
        self._cuts.wake()
        errors: list[Exception] = []
        for session_no, cancellation in found.cancellations:
            try:
                async for changes in cancel_session(self._database, session_no, cancellation=cancellation):
                    self._notices.publish(changes)
            except Exception as error:  # noqa: BLE001 - one of them must not hold up the others
                errors.append(error)
        if errors:
            raise errors[0]
