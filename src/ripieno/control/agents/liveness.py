"""Liveness: one loop that renews the leases of the agents connected here, then rescues the attempts of lost agents.

Renewing comes first, on a session of the database that no other work can hold. An agent is
lost when its renewals have stood still for a whole lease while this replica was awake and
looked regularly. Time is measured by this process's monotonic clock alone: setting a clock here,
on the database's host or elsewhere, changes nothing.

**A replica that was asleep declares no agent lost.** A gap between two looks (this process was stopped, the
machine slept, the event loop was held up, the database was away) gives every agent a full
lease from the end of the gap: agents may have had as little chance to be renewed as we had to
look. While no replica runs at all no agent is lost either.

**A replica that could not have renewed declares no agent lost.** A database that takes no writes
(read-only, its disk full) can still be read: to a replica that only looks, the agents of others seem
to stand still. So a replica writes to the row of each agent that was not renewed for a while, and a
turn that fails at anything gives every agent a full lease, as a gap does.

**An agent of another replica that is stopped.** A stopped replica renews nothing, but its session with
the database stays, and a lock on it that bears the replica's number. Its agents have moved to
other replicas within the lease if they know any; those that cannot are left alone for some
leases longer. The session of a replica that has died goes at once, and that of a host that has
vanished within ten seconds.
"""

import asyncio
import random
import time
from collections.abc import Mapping

import structlog

from ripieno.background import Health, Loop, Setback
from ripieno.control.agents.dispatcher import Dispatcher
from ripieno.control.agents.reports import Reports
from ripieno.domain.errors import UnavailableError
from ripieno.domain.outcomes import Failed, Failure, Outcome, Ticket
from ripieno.store.cluster.agents import (
    held_by_lapsed,
    introduce_replica,
    read_renewals,
    renew_leases,
    without_replica,
    write_to,
)
from ripieno.store.database.connections import Connection
from ripieno.store.database.database import Database

_log = structlog.get_logger(__name__)

#: Looks at the renewals in the time of one lease.
_LOOKS = 4

#: A gap between looks that is longer than this part of a lease means that this replica was asleep.
_GAP = 0.5

#: An agent that was not renewed for this part of a lease is suspected: one that is well is renewed ``_LOOKS`` times
#: a lease. What is left of the lease is enough for it to be renewed, should the database have taken no writes
#: until just before we wrote.
_SUSPECTED = 0.375

#: An agent whose replica has a session but does not renew is lost after this many leases.
_LEASES_OF_A_STOPPED_REPLICA = 6

#: Attempts read in one round of a rescue, beside those that are being rescued already.
_RESCUED_AT_ONCE = 500


class Observer:
    """Tracks for how long the renewals of each agent have stood still. No I/O and no clock of its own.

    Args:
        lease_s: Seconds after which an agent that was not renewed is lost.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._looked_at: float | None = None
        #: For each agent: its count of renewals, and since when that has not changed.
        self._seen: dict[int, tuple[int, float]] = {}

    def look(self, renewals: Mapping[int, int], now: float) -> dict[int, float]:
        """Note the renewals read at ``now``; return for how many seconds each agent was not renewed.

        Args:
            renewals: Counts of the renewals of all agents that hold attempts; others cannot lose anything.
            now: When they were read, by a monotonic clock.
        """
        if self._looked_at is None or now - self._looked_at > _GAP * self._lease_s:
            self._seen.clear()
        self._looked_at = now
        self._seen = {
            agent_no: seen if (seen := self._seen.get(agent_no)) is not None and seen[0] == count else (count, now)
            for agent_no, count in renewals.items()
        }
        return {agent_no: now - since for agent_no, (_, since) in self._seen.items()}

    def forget(self) -> None:
        """Forget the renewals seen so far: each agent has a whole lease from the next look on."""
        self._looked_at = None


class Liveness:
    """Renews the leases of one replica's agents, and rescues the attempts of lost agents.

    Attributes:
        replica: The number by which other replicas see that this one lives.
    """

    def __init__(
        self, database: Database, dispatcher: Dispatcher, reports: Reports, lease_s: float, health: Health
    ) -> None:
        self.replica = 0
        self._database = database
        self._dispatcher = dispatcher
        self._reports = reports
        self._lease_s = lease_s
        self._session = database.own_session()
        self._introduced: Connection | None = None
        self._observer = Observer(lease_s)
        self._group: asyncio.TaskGroup | None = None
        self._rescuing: asyncio.Task[None] | None = None
        #: Attempts whose rescue is under way.
        self._given_up: set[Ticket] = set()
        self._setback = Setback("rescuing from lost agents", health)
        self._loop = Loop(
            "renewing the leases of agents", self._turn, every_s=lease_s / _LOOKS, health=health, at_once=True
        )

    async def run(self) -> None:
        """Renew and rescue until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._loop.run()

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(self._lease_s / 2), self._session.acquire() as session:
                await self._database.check_incarnation(session)
                await self._introduce(session)
                await self._renew(session)
                renewals = await read_renewals(session)
                lost = await self._lost(session, self._observer.look(renewals, time.monotonic()))
        except BaseException as error:
            self._observer.forget()
            if isinstance(error, TimeoutError):
                answer = "the database does not answer in time; leases are renewed when it does"
                raise UnavailableError(answer) from error
            raise
        if lost and (self._rescuing is None or self._rescuing.done()):
            assert self._group is not None, "turns are taken by run"
            self._rescuing = self._group.create_task(self._rescue({number: renewals[number] for number in lost}))

    async def _introduce(self, session: Connection) -> None:
        if session is not self._introduced:
            self.replica = random.getrandbits(31)
            await introduce_replica(session, self.replica)
            self._introduced = session

    async def _renew(self, session: Connection) -> None:
        links = dict(self._dispatcher.links)
        if not links:
            return
        epochs = {number: link.epoch for number, link in links.items()}
        asked_at = time.monotonic()
        renewed = await renew_leases(session, epochs, self._lease_s, self.replica)
        for number, link in links.items():
            if number in renewed:
                self._dispatcher.renewed(link, asked_at)
            else:
                _log.info("agent has connected elsewhere since; its connection here is closed", agent=link.name)
                self._dispatcher.disconnect(link)
                link.close()

    async def _lost(self, session: Connection, still: Mapping[int, float]) -> set[int]:
        """Return the lost agents among those that were not renewed for ``still`` seconds each.

        An agent is lost if it was not renewed for a lease although the database took writes, and no other
        replica can be expected to renew it: its replica is gone, or has been silent for too long, or is
        this one, which the agent has left.
        """
        suspected = [number for number, for_s in still.items() if for_s >= _SUSPECTED * self._lease_s]
        if not suspected:
            return set()
        written = await write_to(session, suspected)
        late = {number: for_s for number in written if (for_s := still[number]) >= self._lease_s}
        long_ago = {number for number, for_s in late.items() if for_s > _LEASES_OF_A_STOPPED_REPLICA * self._lease_s}
        return long_ago | await without_replica(session, list(late), self.replica) if late else set()

    async def _rescue(self, lapsed: Mapping[int, int]) -> None:
        """End the attempts of lost agents as failed. What fails is left to the next look, which finds the same agents."""
        try:
            while lost := await self._held(lapsed):
                _log.warning(
                    "rescuing attempts of lost agents", attempts=len(lost), agents=sorted({name for _, name in lost})
                )
                stored = [self._give_up(ticket, name) for ticket, name in lost]
                # An outcome that meets a bug is tried again for long; it must not hold up all others.
                await asyncio.wait(stored, timeout=self._lease_s)
        except Exception as error:  # noqa: BLE001 - the next look finds the same agents
            self._setback.note(error)
        else:
            self._setback.over()

    async def _held(self, lapsed: Mapping[int, int]) -> list[tuple[Ticket, str]]:
        """Read some attempts of these agents that are not being rescued already."""
        held = await held_by_lapsed(self._database, lapsed, _RESCUED_AT_ONCE + len(self._given_up))
        return [(ticket, name) for ticket, name in held if ticket not in self._given_up]

    def _give_up(self, ticket: Ticket, name: str) -> "asyncio.Future[None]":
        outcome = Outcome(ticket, Failed(Failure.ATTEMPT, f"agent {name!r} was lost: its lease ran out"))
        self._given_up.add(ticket)
        stored = self._reports.commit([outcome])
        stored.add_done_callback(lambda _stored: self._given_up.discard(ticket))
        return stored
