"""The clock of a replica: promotes tasks whose time has come, and ends those whose deadline has passed.

A replica sleeps until the next timer of the database is due. One that is due sooner is told by whoever sets it: to this
replica at once, to the others by NOTIFY. A look every ten seconds makes up for a message that was lost, and for a clock
that was set. What is due is decided by the clock of the database alone, so replicas agree, and any number of them may be
at it: each takes what no other is taking.
"""

import asyncio
import time
from collections.abc import Sequence

from ripieno.background import Health, Loop
from ripieno.control.waiting.notices import Notices
from ripieno.store.cluster.signals import News
from ripieno.store.database.database import Database
from ripieno.store.graph import timers
from ripieno.store.sessions.changes import Changes

#: Seconds between two looks at the next timer, whatever was told.
LOOK_EVERY_S = 10.0

#: Seconds between a step that has left something that is due and the next one: as long as the step took, within these
#: bounds. Other work has its turn meanwhile, or another replica is at it.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.1


class Timers:
    """Keeps the timers of tasks, beside the other replicas."""

    def __init__(self, database: Database, notices: Notices, health: Health | None = None) -> None:
        self._database = database
        self._notices = notices
        self._alarm: asyncio.TimerHandle | None = None
        #: Sessions in which a step failed, until one succeeds.
        self._apart: set[int] = set()
        self._loop = Loop("keeping timers", self._turn, every_s=LOOK_EVERY_S, at_once=True, health=health)

    async def run(self) -> None:
        """Keep timers until cancelled."""
        try:
            await self._loop.run()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    def changed_here(self, changes: Changes) -> None:
        """Look when a timer is due that a transaction of this replica has set."""
        if changes.due_in_s is not None:
            self._look_in(changes.due_in_s)

    def changed_elsewhere(self, news: News) -> None:
        """Look when a timer is due that another replica has set; at once if anything may have changed."""
        if news.everything:
            self._look_in(0.0)
        elif news.due_in_s is not None:
            self._look_in(news.due_in_s)

    def _look_in(self, seconds: float) -> None:
        if seconds >= LOOK_EVERY_S:
            return  # there is a look before that
        loop = asyncio.get_running_loop()
        at = loop.time() + max(seconds, 0.0)
        if self._alarm is not None:
            if self._alarm.when() <= at:
                return
            self._alarm.cancel()
        self._alarm = loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._loop.wake()

    async def _turn(self) -> None:
        due_in_s = await timers.next_due(self._database)
        if due_in_s is None:
            return
        if due_in_s <= 0:
            began = time.monotonic()
            await self._fire()
            pause_s = min(max(time.monotonic() - began, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
            due_in_s = await timers.next_due(self._database)
            if due_in_s is None:
                return
            due_in_s = max(due_in_s, pause_s)
        self._look_in(due_in_s)

    async def _fire(self) -> None:
        """Take a step in all sessions with due timers, together; in those in which a step failed, each by itself."""
        together = await timers.due_sessions(self._database, sorted(self._apart))
        errors: list[Exception] = []
        try:
            await self._step(together)
        except Exception as error:  # noqa: BLE001 - raised when the others have had their turn
            # A fault may be one session's own: the next turn finds out whose.
            errors.append(error)
            apart, self._apart = self._apart, self._apart.union(together)
        else:
            apart = set(self._apart)
        for session_no in sorted(apart):
            try:
                await self._step([session_no])
            except Exception as error:  # noqa: BLE001 - likewise
                errors.append(error)
            else:
                self._apart.discard(session_no)
        if errors:
            raise errors[0]

    async def _step(self, sessions: Sequence[int]) -> None:
        if sessions:
            async for changes in timers.fire(self._database, sessions):
                self._notices.publish(changes)
