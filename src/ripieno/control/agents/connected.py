"""The agents connected to this replica, told of what happens elsewhere: cancellations, and newer connections of theirs."""

from collections.abc import Collection, Mapping, Sequence

import structlog

from ripieno.control.agents.dispatcher import Dispatcher
from ripieno.control.agents.reports import Reports
from ripieno.domain.outcomes import Ticket
from ripieno.store.attempts.confirmations import cancelling_at
from ripieno.store.cluster.agents import held_for_a_while
from ripieno.store.cluster.signals import News
from ripieno.store.database.database import Database
from ripieno.store.sessions.changes import Changes

_log = structlog.get_logger(__name__)


class Connected:
    """Keeps the links of the agents connected here in step with the store and the other replicas."""

    def __init__(self, database: Database, dispatcher: Dispatcher, reports: Reports) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._reports = reports
        #: Claims that their agents had not seen at the last ``reconcile``.
        self._unseen: set[int] = set()

    async def reconcile(self) -> None:
        """Release attempts that the store says connected agents hold, but that the agents have never seen.

        A replica may go on assigning to a stream that has died without being closed, while the
        agent is connected to another replica already. So the latter does this, called by ``Upkeep``.
        """
        links = dict(self._dispatcher.links)
        epochs = {number: link.epoch for number, link in links.items()}
        held = await held_for_a_while(self._database, epochs) if links else []
        suspects = [ticket for agent_no, ticket in held if ticket.claim not in links[agent_no].claims]
        # Only claims that two looks in a row find are released: one that is on its way now has arrived by the next
        # look, whatever clocks say.
        unseen = [ticket for ticket in suspects if ticket.claim in self._unseen]
        self._unseen = {ticket.claim for ticket in suspects}.difference(ticket.claim for ticket in unseen)
        if unseen:
            _log.warning("releasing attempts that their agents have never seen", attempts=len(unseen))
            self._reports.release(unseen)

    def connected_elsewhere(self, news: News) -> None:
        """Close the connections here of agents that have connected to another replica since."""
        self.void(news.connected)

    def void(self, epochs: Mapping[int, int]) -> None:
        """Close the links of these agents whose epoch is lower than the one given."""
        for number, epoch in epochs.items():
            link = self._dispatcher.links.get(number)
            if link is not None and link.epoch < epoch:
                self._dispatcher.disconnect(link)
                link.close()

    def cancel_here(self, changes: Changes) -> None:
        """Tell the agents connected here that a transaction of this replica has cancelled attempts of theirs."""
        by_agent: dict[int, list[Ticket]] = {}
        for agent_no, ticket in changes.cancelled:
            by_agent.setdefault(agent_no, []).append(ticket)
        for agent_no, tickets in by_agent.items():
            if link := self._dispatcher.links.get(agent_no):
                link.cancel(tickets)

    def follow_here(self, changes: Changes) -> None:
        """Ask the agents connected here for what somebody follows: what attempts of theirs print, how far they have come."""
        self._follow(changes.followed, changes.watched)

    def follow_elsewhere(self, news: News) -> None:
        """Do the same for those who follow through another replica."""
        self._follow(news.followed, news.watched)

    def _follow(self, followed: Sequence[tuple[int, Ticket]], watched: Collection[int]) -> None:
        for agent_no, ticket in followed:
            if link := self._dispatcher.links.get(agent_no):
                link.follow(ticket)
        if watched:
            for link in self._dispatcher.links.values():
                link.watch(watched)

    def cancel_elsewhere(self, news: News) -> None:
        """Read and tell the cancellations of agents connected here after another replica has cancelled attempts."""
        links = self._dispatcher.links
        concerned = list(links) if news.everything else [number for number in news.agents if number in links]
        if concerned:
            self._reports.spawn(self._cancel_read(concerned))

    async def _cancel_read(self, agents: Sequence[int]) -> None:
        for agent_no, tickets in (await cancelling_at(self._database, agents)).items():
            if link := self._dispatcher.links.get(agent_no):
                link.cancel(tickets)
