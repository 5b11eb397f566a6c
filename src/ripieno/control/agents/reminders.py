"""Reminders of cancellations: those that an agent has not confirmed are told to it again until it does.

A notice of a cancellation may be lost: the replica that committed it ended before it could
tell the agent, its message to this replica never came, or a stream broke. The store knows which
attempts are being cancelled; each replica reminds the agents that are connected to it.
"""

from ripieno.background import Health, Loop
from ripieno.control.agents.dispatcher import Dispatcher
from ripieno.store.attempts.confirmations import cancelling_at
from ripieno.store.database.database import Database

#: Seconds between reminders, which bounds the delay by a lost notice. Costs one small statement a second while agents
#: are connected.
REMIND_EVERY_S = 1.0


class Reminders:
    """Tells connected agents again which cancellations they have not confirmed."""

    def __init__(self, database: Database, dispatcher: Dispatcher, health: Health | None = None) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._loop = Loop("telling cancellations again", self._remind, every_s=REMIND_EVERY_S, health=health)

    async def run(self) -> None:
        """Remind until cancelled."""
        await self._loop.run()

    async def _remind(self) -> None:
        links = dict(self._dispatcher.links)
        if not links:
            return
        for agent_no, tickets in (await cancelling_at(self._database, list(links))).items():
            links[agent_no].remind(tickets, REMIND_EVERY_S)
