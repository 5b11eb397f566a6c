"""Short turns of those who need a session for themselves.

Whoever cuts a graph or cancels holds the gate of the session exclusively, and everybody else
waits there meanwhile: whoever submits to the session or commits in it, and those of other
sessions who share a transaction with them. So such work is done in steps, each a transaction
of its own, and a step

* waits for the gate for a moment only: behind it in the queue all others wait, too;
* is as long as it may be, measured by the step before (``Turns.size``);
* is followed by a pause as long as the step, in which those who have waited come through.

One replica takes one such step at a time, whatever there is to cut: the others wait for two
moments, not for as many as there are sessions being cut.

Work that *goes on*, after a step that was not enough, pauses the longer the busier the processors
are: where there is no time to spare, it would hold up all others on them. Whoever takes a first
step does not wait for that: to cancel sixty tasks is quick beside the cancellation of a million.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import asyncpg

from ripieno.domain.errors import UnavailableError
from ripieno.processors import Processors
from ripieno.store.database.connections import Connection
from ripieno.store.database.gates import gates

T = TypeVar("T")

#: How long a step may wait for a gate, or a row.
LONGEST_WAIT_MS = 30

#: How long a step should hold it.
STEP_S = 0.025

#: Bounds for what a step looks at: tasks and results. A step of the smallest takes 10 to 40 ms. With 64 a cancellation on
#: a busy machine spent its time on beginning and committing: each step seems long there, however small it is.
_SMALLEST, _LARGEST = 512, 4_000

#: The pause after a step, as a part of it: half of the time is for the others.
_PAUSE = 1.0

#: The pause before work goes on where the processors have no time to spare.
_PAUSE_WHEN_BUSY = 12.0

#: And the longest one: a step that took long found the machine busy with other work.
_LONGEST_PAUSE_S = 0.5


class Transactions(Protocol):
    """What runs the steps: the ``Database`` whose turns these are."""

    async def transaction(
        self,
        body: Callable[[Connection], Awaitable[T]],
        *,
        opening: str = "",
        durable: bool = True,
        incarnation: int | None = None,
    ) -> T:
        """Run ``body`` in a transaction and return what it returned."""


class Turns:
    """Whose turn it is in this replica.

    Attributes:
        size: About how many tasks and results a step should look at.
    """

    def __init__(self, processors: Processors) -> None:
        self.size = 512
        self._processors = processors
        self._lock = asyncio.Lock()
        self._pause_until = 0.0
        #: Held by work that goes on, while it waits for its step and takes it.
        self._going_on = asyncio.Lock()
        self._go_on_at = 0.0

    async def take(
        self,
        database: Transactions,
        sessions: Iterable[int],
        body: Callable[[Connection], Awaitable[T]],
        *,
        goes_on: bool = False,
        durable: bool = True,
        incarnation: int | None = None,
    ) -> T:
        """Run ``body`` in a transaction that holds the gates of these sessions exclusively.

        ``body`` should look at ``size`` tasks and results at most. It is run again where the
        transaction had to wait too long for somebody.

        Args:
            goes_on: The step before, of the same work, was not enough.

        Raises:
            UnavailableError, OutcomeUnknownError, StaleError: as ``Database.transaction`` does.
        """
        exclusive = frozenset(sessions)
        opening = f"set local lock_timeout = {LONGEST_WAIT_MS};{gates(exclusive, exclusive)}"

        async def transaction() -> T:
            return await database.transaction(body, opening=opening, durable=durable, incarnation=incarnation)

        while True:
            try:
                if not goes_on:
                    return await self._step(transaction)
                async with self._going_on:  # let go of after each try: the next work's gate may be free
                    await asyncio.sleep(self._go_on_at - time.monotonic())
                    return await self._step(transaction)
            except UnavailableError as error:
                if not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                    raise
                self._pause_until = time.monotonic() + LONGEST_WAIT_MS / 1000

    async def _step(self, transaction: Callable[[], Awaitable[T]]) -> T:
        async with self._lock:
            await asyncio.sleep(self._pause_until - time.monotonic())
            began = time.monotonic()
            value = await transaction()
            self._measured(time.monotonic() - began)
            return value

    def _measured(self, took_s: float) -> None:
        now = time.monotonic()
        self._pause_until = now + min(took_s * _PAUSE, _LONGEST_PAUSE_S)
        when_busy_s = took_s * self._processors.lack * _PAUSE_WHEN_BUSY
        self._go_on_at = max(self._go_on_at, now + min(when_busy_s, _LONGEST_PAUSE_S))
        if took_s > STEP_S:
            self.size = max(int(self.size * max(STEP_S / took_s, 0.5)), _SMALLEST)
        elif took_s < STEP_S / 2:
            self.size = min(int(self.size * 1.25), _LARGEST)
