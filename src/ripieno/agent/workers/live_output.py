"""The output of attempts that run, sent to the control plane while somebody there follows it.

The control plane names attempts, and again as long as they are followed. Every ``SEND_EVERY_S`` the agent sends
the end of all that such an attempt has printed so far, if it is more than before. Nothing is kept: what is lost with a
stream comes with the next time.

The text of one attempt never comes with another's name: where several are in a worker's inbox, the first may have
ended, and the next one print, before the agent hears of it. Then only what was printed when the agent looked the time
before is sent, since the end of the first would have arrived by now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.scheduling.slots import Slot
from ripieno.domain.output import AttemptOutput
from ripieno.printed import Position
from ripieno.wire.protos.v1 import agent_pb2

SEND_EVERY_S = 0.5
#: How long an attempt is followed after the control plane has named it. It names it again every five seconds.
FOLLOWED_S = 15.0
#: The most attempts that are followed at a time; further ones are not sent until others are no longer followed.
MOST_FOLLOWED = 32


@dataclass(slots=True)
class _Followed:
    until: float
    #: How many bytes the attempt had printed when its output was sent last; -1 before the first time.
    sent: int = -1
    #: Where its output began, and what had been printed, when it was looked at last.
    start: Position | None = None
    end: Position | None = None


class LiveOutputs:
    """Sends what attempts that run have printed. Belongs to the event loop's thread."""

    def __init__(self, slots: Sequence[Slot], outbox: Outbox) -> None:
        self._slots = slots
        self._outbox = outbox
        self._followed: dict[int, _Followed] = {}
        self._begun = asyncio.Event()

    def follow(self, tickets: Iterable[agent_pb2.Ticket]) -> None:
        """Send what these attempts print, from now on for ``FOLLOWED_S``; at least once, so that it is known to be little."""
        until = time.monotonic() + FOLLOWED_S
        for ticket in tickets:
            if ticket.claim in self._followed:
                self._followed[ticket.claim].until = until
                self._followed[ticket.claim].sent = -1
            elif len(self._followed) < MOST_FOLLOWED:
                self._followed[ticket.claim] = _Followed(until)
        if self._followed:
            self._begun.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._begun.wait()
            self.send()
            await asyncio.sleep(SEND_EVERY_S)

    def send(self) -> None:
        """Send what followed attempts have printed since they were looked at last."""
        now = time.monotonic()
        self._followed = {claim: each for claim, each in self._followed.items() if each.until > now}
        if not self._followed:
            self._begun.clear()
        if self._outbox.congested:
            return
        for slot in self._slots:
            followed = self._followed.get(slot.inbox[0].claim) if slot.inbox else None
            if followed is None or slot.printed is None or slot.output_since is None:
                continue
            end = slot.printed.read
            surely = end if len(slot.inbox) == 1 else followed.end if followed.start == slot.output_since else None
            followed.start, followed.end = slot.output_since, end
            if surely is None:
                continue
            output = slot.printed.between(slot.output_since, surely) or AttemptOutput()
            if output.total != followed.sent:
                followed.sent = output.total
                self._outbox.printed(slot.inbox[0], output)
