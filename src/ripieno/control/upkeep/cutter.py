"""The cutter: goes on step by step with cuts, promotions and revivals that were begun, also with abandoned ones.

Sessions take turns, however much there is to cut in one of them; between two steps
transactions that wait at a gate come through (``store.database.turns``). Cuts that one step did not
finish go on beside those that begin.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from ripieno.background import Health, Loop
from ripieno.control.waiting.notices import Notices
from ripieno.store.database.database import Database
from ripieno.store.graph import cuts, promotions, revivals
from ripieno.store.graph.abandoned import Abandoned
from ripieno.store.graph.cancel import cancel_session
from ripieno.store.sessions.changes import Changes

#: Seconds between two looks for work that nobody goes on with; a replica that works on something moves it many times
#: meanwhile.
LOOK_EVERY_S = 5.0


class Cutter:
    """Runs the cuts, promotions and revivals of one replica."""

    def __init__(self, database: Database, notices: Notices, health: Health | None = None) -> None:
        self._database = database
        self._notices = notices
        self._waiting: dict[int, None] = {}
        #: Sessions in which one step was not enough, as long as there is more to cut.
        self._long: set[int] = set()
        self._going_on: dict[int, None] = {}
        self._promoting: dict[int, None] = {}
        self._reviving: dict[int, None] = {}
        self._abandoned = Abandoned(database)
        self._cuts = Loop("cutting graphs", self._cut, every_s=LOOK_EVERY_S, health=health)
        self._long_cuts = Loop("cutting large graphs", self._go_on, every_s=LOOK_EVERY_S, health=health)
        self._promotions = Loop("promoting dependents", self._promote, every_s=LOOK_EVERY_S, health=health)
        self._revivals = Loop("reviving graphs", self._revive, every_s=LOOK_EVERY_S, health=health)
        self._looks = Loop("looking for abandoned cuts", self._look, every_s=LOOK_EVERY_S, health=health)

    def changed_here(self, changes: Changes) -> None:
        """Enqueue the cuts, promotions and revivals that a transaction of this replica has left unfinished."""
        if goes_on := changes.cuts & self._long:
            self._going_on.update(dict.fromkeys(goes_on))
            self._long_cuts.wake()
        if begins := changes.cuts - self._long:
            self._waiting.update(dict.fromkeys(begins))
            self._cuts.wake()
        if changes.promotions:
            self._promoting.update(dict.fromkeys(changes.promotions))
            self._promotions.wake()
        if changes.revivals:
            self._reviving.update(dict.fromkeys(changes.revivals))
            self._revivals.wake()

    async def run(self) -> None:
        """Cut, promote and revive until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cuts.run())
            group.create_task(self._long_cuts.run())
            group.create_task(self._promotions.run())
            group.create_task(self._revivals.run())
            group.create_task(self._looks.run())

    async def _cut(self) -> None:
        await self._by_turns(self._waiting, self._step)  # ``cuts.step`` pauses by itself

    async def _go_on(self) -> None:
        await self._by_turns(self._going_on, partial(self._step, goes_on=True))

    async def _step(self, database: Database, session_no: int, *, goes_on: bool = False) -> Changes:
        changes = await cuts.step(database, session_no, goes_on=goes_on)
        if changes.cuts:
            self._long.add(session_no)
        else:
            self._long.discard(session_no)
        return changes

    async def _promote(self) -> None:
        await self._by_turns(self._promoting, promotions.step, pause=1.0)

    async def _revive(self) -> None:
        await self._by_turns(self._reviving, self._revival_step)  # ``revivals.step`` pauses by itself

    async def _revival_step(self, database: Database, session_no: int) -> Changes:
        return (await revivals.step(database, session_no, goes_on=True)).changes

    async def _by_turns(
        self, waiting: dict[int, None], step: Callable[[Database, int], Awaitable[Changes]], pause: float = 0.0
    ) -> None:
        """Take a step in each of the waiting sessions in turn, until none waits.

        Args:
            waiting: Sessions with work to do, in the order of their turns.
            step: Does a step in a session, and returns the changes, which name the session if more is left to do.
            pause: Pause after each step, as a multiple of its duration, so that the database gets to other work.
        """
        while waiting:
            began = time.monotonic()
            session_no = next(iter(waiting))
            del waiting[session_no]
            try:
                changes = await step(self._database, session_no)
            except BaseException:
                waiting[session_no] = None  # at the end: its fault must not hold up the others
                raise
            # This calls ``changed_here``, which enqueues the session anew if more is left to do.
            self._notices.publish(changes)
            await asyncio.sleep(pause * (time.monotonic() - began))

    async def _look(self) -> None:
        found = await self._abandoned.look()
        self.changed_here(Changes(cuts=set(found.cuts), promotions=set(found.promotions), revivals=set(found.revivals)))
        errors: list[Exception] = []
        for session_no, cancellation in found.cancellations:
            try:
                async for changes in cancel_session(self._database, session_no, cancellation=cancellation):
                    self._notices.publish(changes)
            except Exception as error:  # noqa: BLE001 - a fault of one cancellation must not hold up the others
                errors.append(error)
        if errors:
            raise errors[0]
