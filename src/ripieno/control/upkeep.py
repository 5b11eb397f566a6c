"""What a replica does in the background: leases, rescue, counts, garbage.

The Rescuer takes back what lost agents held. It trusts no clock but the database's, and it
gives everybody a lease of grace whenever this replica could not renew leases for a while
(at its start, and after the database was away): agents must have had the time to come back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from ripieno.control.dispatcher import Dispatcher
from ripieno.control.reports import Reports
from ripieno.domain.errors import RipienoError
from ripieno.domain.outcomes import Failed, Failure, Outcome
from ripieno.store.agents import expired_attempts, forget_agents, renew_leases
from ripieno.store.changes import Changes
from ripieno.store.counts import fold_counts
from ripieno.store.database import Database
from ripieno.store.objects import ObjectStore

_log = structlog.get_logger(__name__)

#: Attempts rescued in one commit.
_RESCUED_AT_ONCE = 500

_FOLD_EVERY_S = 1.0
_COLLECT_EVERY_S = 3600.0


class Upkeep:
    """The background work of one replica."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        dispatcher: Dispatcher,
        reports: Reports,
        reconcile: Callable[[], Awaitable[None]],
        lease_s: float,
    ) -> None:
        self._database = database
        self._objects = objects
        self._dispatcher = dispatcher
        self._reports = reports
        self._reconcile = reconcile
        self._lease_s = lease_s
        self._grace_until = time.monotonic() + lease_s
        self._changed: set[int] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._lease_s / 4, self._renew))
            group.create_task(self._every(self._lease_s / 4, self._rescue))
            group.create_task(self._every(self._lease_s / 2, self._reconcile))
            group.create_task(self._every(_FOLD_EVERY_S, self._fold))
            group.create_task(self._every(_COLLECT_EVERY_S, self._collect))

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except RipienoError as error:
                self._grace_until = time.monotonic() + self._lease_s
                _log.warning("upkeep failed; will try again", work=work.__name__, error=error.detail)

    async def _renew(self) -> None:
        if self._dispatcher.links:
            await renew_leases(self._database, list(self._dispatcher.links), self._lease_s)

    async def _rescue(self) -> None:
        if time.monotonic() < self._grace_until:
            return
        while lost := await expired_attempts(self._database, _RESCUED_AT_ONCE):
            _log.warning("rescuing attempts of lost agents", attempts=len(lost), agents=sorted({n for _, n in lost}))
            await self._reports.commit(
                [
                    Outcome(ticket, Failed(Failure.ATTEMPT, f"agent {name!r} was lost: its lease ran out"))
                    for ticket, name in lost
                ]
            )

    def changed_here(self, changes: Changes) -> None:
        """A transaction of this replica has committed."""
        self._changed |= changes.sessions

    async def _fold(self) -> None:
        # What it changed itself: looking at every session each second would cost more the more there are.
        changed, self._changed = self._changed, set()
        if changed:
            await fold_counts(self._database, sorted(changed))

    async def _collect(self) -> None:
        await self._objects.collect_garbage()
        await forget_agents(self._database)
