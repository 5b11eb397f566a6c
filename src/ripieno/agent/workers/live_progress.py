"""How far attempts that run have come, sent to the control plane while somebody there follows their session.

The control plane names sessions, and again as long as they are followed. Every ``SEND_EVERY_S`` the agent sends what
attempts of these have said since it was sent last. Nothing is kept: what is lost with a stream comes when the
session is named again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.scheduling.slots import Slot
from ripieno.domain.progress import Progress

SEND_EVERY_S = 0.5
#: How long a session is followed after the control plane has named it. It names it again every five seconds.
FOLLOWED_S = 15.0
#: The most sessions that are followed at a time; further ones wait until others are no longer followed.
MOST_FOLLOWED = 1_000


class LiveProgress:
    """Sends how far attempts that run have come. Belongs to the event loop's thread."""

    def __init__(self, slots: Sequence[Slot], outbox: Outbox) -> None:
        self._slots = slots
        self._outbox = outbox
        #: Until when a session is followed, by its number, in monotonic seconds.
        self._followed: dict[int, float] = {}
        #: What was sent last of attempts that run, by claim.
        self._sent: dict[int, Progress] = {}
        self._begun = asyncio.Event()

    def follow(self, session_nos: Iterable[int]) -> None:
        """Send how far the attempts of these sessions have come: all at once, and what changes for ``FOLLOWED_S``."""
        until = time.monotonic() + FOLLOWED_S
        named = {number for number in session_nos if number in self._followed or len(self._followed) < MOST_FOLLOWED}
        self._followed |= dict.fromkeys(named, until)
        for slot in self._slots:
            for attempt in slot.inbox:
                if attempt.session_no in named:
                    self._sent.pop(attempt.claim, None)
        if self._followed:
            self._begun.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._begun.wait()
            self.send()
            await asyncio.sleep(SEND_EVERY_S)

    def send(self) -> None:
        """Send what attempts of followed sessions have said since it was sent last."""
        now = time.monotonic()
        self._followed = {number: until for number, until in self._followed.items() if until > now}
        if not self._followed:
            self._begun.clear()
        if self._outbox.congested:
            return
        sent: dict[int, Progress] = {}
        for slot in self._slots:
            for attempt in slot.inbox:
                if (progress := attempt.progress) is None or attempt.session_no not in self._followed:
                    continue
                if self._sent.get(attempt.claim) is not progress:
                    self._outbox.progressed(attempt, progress)
                sent[attempt.claim] = progress
        self._sent = sent
