"""The dispatcher: claims tasks in large batches for the agents connected to this replica.

Agents grant credit. A partition is *hot* while it may have claimable tasks: from the moment a notice
says that a task of it became claimable, or an agent that serves it connects, until a claim comes back
with less than it asked for, or no agent serves it. A claim is made when a hot partition meets credit;
while one is under way, credit gathers for the next.

Credit that a claim does not use is given back: the agent still counts on it, and would not grant it again.

Credit counts only while its agent's lease is renewed. A replica that was stopped for a while does not
know whether its agents are still connected to it before it has renewed their leases.
"""

import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from ripieno.background import Health, Loop
from ripieno.control.agents.agent_link import AgentLink
from ripieno.domain.errors import ConflictError, RipienoError
from ripieno.domain.outcomes import Ticket
from ripieno.store.attempts.claim import Claimed, Claims
from ripieno.store.cluster.signals import News
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import Sessions

_log = structlog.get_logger(__name__)

#: The most tasks in one claim. Larger claims are a little cheaper for each task, but last longer, and the first
#: task of a claim waits for all of it (benchmarks.tuning; 99 of 100 within 20 ms on two busy cores).
_LARGEST_CLAIM = 256

#: A claim takes an eighth of an agent's credit at a turn, so that the credit is used up in about this many turns.
_TURNS = 8

#: An agent's credit counts if its lease was renewed within this part of a lease.
_RENEWED = 0.5

#: The interval at which all served partitions are looked at, in case a notice was lost.
_LOOK_ANYWAY_S = 2.0


class Dispatcher:
    """Claims tasks for agents with credit, and hands them out.

    Args:
        claims: Claims tasks in the store.
        release: Called to give claimed tasks back that cannot be handed out.
        lease_s: The lease of agents in seconds.
    """

    def __init__(
        self,
        claims: Claims,
        sessions: Sessions,
        release: Callable[[Sequence[Ticket]], Awaitable[None]],
        health: Health | None = None,
        *,
        lease_s: float = math.inf,
    ) -> None:
        self._claims = claims
        self._sessions = sessions
        self._release = release
        self._lease_s = lease_s
        self._links: dict[int, AgentLink] = {}
        self._hot: set[str] = set()
        #: The highest priority submitted to a partition since its last claim began.
        self._submitted: dict[str, int] = {}
        self._loop = Loop("claiming tasks", self._turn, every_s=_LOOK_ANYWAY_S, health=health)

    def connect(self, link: AgentLink) -> None:
        """Register the link of an agent that has connected, and close an older link of the same agent.

        Raises:
            ConflictError: if the agent has a newer link already.
        """
        former = self._links.get(link.agent_no)
        if former is not None:
            if former.epoch > link.epoch:
                raise ConflictError(f"agent {link.name!r} has connected anew since it opened this connection")
            former.close()
        self._links[link.agent_no] = link
        link.on_room = self.credit_granted
        self._hot |= set(link.partitions)
        self._loop.wake()

    def disconnect(self, link: AgentLink) -> None:
        """Remove the link of an agent that has disconnected; no-op if the agent has another link by now."""
        if self._links.get(link.agent_no) is link:
            del self._links[link.agent_no]

    def disconnect_all(self) -> None:
        """Close all links, so that the agents connect anew: a new incarnation of the database knows no agent numbers."""
        links, self._links = self._links, {}
        for link in links.values():
            link.close()

    @property
    def links(self) -> dict[int, AgentLink]:
        """The links of connected agents by the agent's number."""
        return self._links

    def renewed(self, link: AgentLink, asked_at: float) -> None:
        """Note that the lease of an agent was renewed by a request made at ``asked_at`` (monotonic clock)."""
        was_held = self._is_held(link)
        link.renewed_at = asked_at
        if not was_held:
            self.credit_granted()

    def _is_held(self, link: AgentLink) -> bool:
        """Whether the agent's lease was renewed within the last half of a lease, so that its credit counts."""
        return time.monotonic() - link.renewed_at < _RENEWED * self._lease_s

    def credit_granted(self) -> None:
        """Claim soon if a partition is hot: an agent has more credit, or can use what it has again."""
        if self._hot:
            self._loop.wake()

    def changed_here(self, changes: Changes) -> None:
        """Claim from the partitions in which a transaction of this replica has made tasks claimable."""
        self._warm(changes.partitions)

    def changed_elsewhere(self, news: News) -> None:
        """Claim from the partitions in which another replica has made tasks claimable; from all, if news may be lost."""
        self._warm(
            {partition for link in self._links.values() for partition in link.partitions}
            if news.everything
            else news.partitions
        )

    def _warm(self, partitions: set[str] | frozenset[str]) -> None:
        if partitions:
            self._hot |= partitions
            self._loop.wake()

    async def run(self) -> None:
        """Dispatch until cancelled."""
        await self._loop.run()

    async def _turn(self) -> None:
        if self._loop.due:  # look at every served partition, whatever notices said
            self._hot |= {partition for link in self._links.values() for partition in link.partitions}
        await self._dispatch()

    async def _dispatch(self) -> None:
        for partition in sorted(self._hot):
            while (credit := self._take(partition, _LARGEST_CLAIM)).agents:
                self._hot.discard(partition)
                self._submitted.pop(partition, None)
                claimed: list[Claimed] = []
                try:
                    claimed = await self._claims.claim(partition, credit.agents)
                except BaseException:
                    self._hot.add(partition)  # the claim failed, so the partition may still have claimable tasks
                    raise
                finally:
                    self._give_back(credit, claimed)
                if len(claimed) == len(credit.agents):
                    self._hot.add(partition)
                await self.hand_out(claimed, credit)
                if (priority := self._submitted.pop(partition, None)) is not None:
                    self._hurry(partition, priority)
                if len(claimed) < len(credit.agents):
                    break
            if not self._is_served(partition):
                # Clients may name any number of partitions: those that no agent serves are forgotten. An agent that comes
                # to serve one makes it hot.
                self._hot.discard(partition)
                self._submitted.pop(partition, None)

    def _is_served(self, partition: str) -> bool:
        return any(partition in link.partitions for link in self._links.values())

    def submitted(self, partition: str, priority: int) -> None:
        """Note that tasks up to ``priority`` were submitted, so that agents may make room for the more urgent ones."""
        if not self._is_served(partition):
            return
        # A claim that is under way may not have seen them: agents are told again after it.
        self._submitted[partition] = max(priority, self._submitted.get(partition, 0))
        self._hurry(partition, priority)

    def _hurry(self, partition: str, priority: int) -> None:
        for link in self._links.values():
            if partition in link.partitions:
                link.hurry(priority)

    def take_for_new(self, partition: str, count: int) -> "Credit | None":
        """Take credit for ``count`` tasks about to be submitted.

        Returns:
            The credit; None if there is less, or if other tasks of the partition may wait for it already.
        """
        if partition in self._hot or self._credit(partition) < count:
            return None
        return self._take(partition, count)

    def give_back(self, credit: "Credit") -> None:
        """Return unused credit to its agents, except to those that have revoked theirs since."""
        self._give_back(credit, ())
        self.credit_granted()

    def _credit(self, partition: str) -> int:
        return sum(link.credit for link in self._takers(partition))

    def _takers(self, partition: str) -> list[AgentLink]:
        return [
            link
            for link in self._links.values()
            if partition in link.partitions and not link.full and self._is_held(link)
        ]

    def _take(self, partition: str, most: int) -> "Credit":
        """Take credit for up to ``most`` tasks: an eighth of an agent's, or one, in turn, starting with the largest."""
        queue = deque(
            sorted(
                ((link.agent_no, link.credit) for link in self._takers(partition)),
                key=lambda demand: -demand[1],
            )
        )
        agents: list[int] = []
        while queue and len(agents) < most:
            agent_no, credit = queue.popleft()
            # An agent with credit for hundreds has tiny tasks: a message for each would cost more than the task
            # does (measured: 500 agents at 68 % of the rate of two).
            turn = min(max(credit // _TURNS, 1), credit, most - len(agents))
            if turn > 0:
                agents += [agent_no] * turn
                queue.append((agent_no, credit - turn))
        revocations = {}
        for agent_no, taken in Counter(agents).items():
            self._links[agent_no].credit -= taken
            revocations[agent_no] = (self._links[agent_no], self._links[agent_no].revocations)
        return Credit(agents, revocations)

    def _give_back(self, credit: "Credit", claimed: Sequence[Claimed]) -> None:
        unused = Counter(credit.agents)
        unused.subtract([task.agent_no for task in claimed])
        for agent_no, left in unused.items():
            link, revocations = credit.granted[agent_no]
            if link.revocations == revocations:
                link.grant(left)

    async def hand_out(self, claimed: Sequence[Claimed], credit: "Credit") -> None:
        """Send claimed tasks to the agents whose credit was taken for them; release those that cannot be sent."""
        if not claimed:
            return
        try:
            options = await self._claims.options(list({task.options_no for task in claimed}))
            sessions = {task.ticket.session_no for task in claimed}
            names = {session_no: (await self._sessions.by_number(session_no)).id for session_no in sessions}
        except RipienoError as error:
            _log.warning("could not hand out what was claimed; released", tasks=len(claimed), error=error.detail)
            # Return the credit of these tasks: the agents count on it, and would never grant it again.
            self.give_back(credit._replace(agents=[task.agent_no for task in claimed]))
            await self._release([task.ticket for task in claimed])
            return
        back: list[Ticket] = []
        for agent_no, tasks in itertools.groupby(sorted(claimed, key=lambda task: task.agent_no), lambda t: t.agent_no):
            link, revocations = credit.granted[agent_no]
            if self._links.get(agent_no) is link and link.revocations == revocations:
                link.assign(list(tasks), options, names)
            else:  # the agent has gone away or revoked its credit meanwhile
                back += [task.ticket for task in tasks]
        if back:
            # Released tasks may be the most urgent ones, so they are released before the next claim. The other agents
            # have their tasks by now, however long the release takes, and whether or not it succeeds.
            await self._release(back)


class Credit(NamedTuple):
    """Credit that was taken from agents for a claim.

    Attributes:
        agents: An agent number for each task that may be claimed.
        granted: For each agent its link, and how often the agent had revoked its credit when this was taken.
    """

    agents: list[int]
    granted: dict[int, tuple[AgentLink, int]]
