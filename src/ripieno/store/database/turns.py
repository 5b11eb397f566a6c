"""Turns: short steps of work that needs a session for itself.

A cut or a cancellation holds the gate of its session exclusively. Meanwhile submissions to the session and
commits in it wait at the gate, and so do those of other sessions that share a transaction with them. So such
work is done in steps, each a transaction of its own. A step

* waits 30 ms at most for the gate, since all others queue behind it meanwhile;
* is as large as 25 ms allow, judged by the steps before (``Turns.size``);
* is followed by a pause as long as the step, in which the transactions that have waited run.

One replica takes one such step at a time, whatever there is to cut: others wait for two
short moments, not for as many as there are sessions being cut.

Work that *goes on*, after a step that was not enough, pauses the longer the busier the processors
are, because it would hold up all other work on them. A first step does not wait for that: the cancellation of
sixty tasks is not held up by the cancellation of a million.
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

#: How long a step may wait for a gate, or a row, in milliseconds.
LONGEST_WAIT_MS = 30

#: How long a step should hold the gate.
STEP_S = 0.025

#: Bounds of ``Turns.size``. A step of the smallest size takes 10 to 40 ms. With a bound of 64, a cancellation on a
#: busy machine spent its time on beginning and committing: every step seems long there, however small it is.
_SMALLEST, _LARGEST = 512, 4_000

#: The pause after a step, as a multiple of the step: half of the time is left to others.
_PAUSE = 1.0

#: The pause before work goes on, as a multiple of the step, where the processors have no time to spare.
_PAUSE_WHEN_BUSY = 12.0

#: The longest pause: if a step took longer than this, the machine was busy with other work.
_LONGEST_PAUSE_S = 0.5


class Transactions(Protocol):
    """The interface that runs steps; implemented by ``Database``, which owns the turns."""

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
    """The turns of one replica: runs one step at a time, and adapts the size of steps.

    Attributes:
        size: Tasks and results that a step should look at, about.
    """

    def __init__(self, processors: Processors) -> None:
        self.size = 512
        self._processors = processors
        self._lock = asyncio.Lock()
        self._pause_until = 0.0
        #: Held by work that goes on, while it waits for a step and takes it.
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

        ``body`` should look at ``size`` tasks and results at most. It is run again if the
        transaction waited longer than ``LONGEST_WAIT_MS`` for a lock.

        Args:
            database: Runs the transaction.
            sessions: Numbers of the sessions whose gates the step holds.
            body: Called with the session on the database, inside the transaction.
            goes_on: True if a former step of the same work was not enough.
            durable: As for ``Database.transaction``.
            incarnation: As for ``Database.transaction``.

        Raises:
            UnavailableError: the database cannot be reached; nothing happened.
            OutcomeUnknownError: the database went away during the commit.
            StaleError: the database is another incarnation by now.
        """
        exclusive = frozenset(sessions)
        # Composed, since it is sent with ``begin`` and has no parameters.
        opening = f"set local lock_timeout = {LONGEST_WAIT_MS};{gates(exclusive, exclusive)}"

        async def transaction() -> T:
            return await database.transaction(body, opening=opening, durable=durable, incarnation=incarnation)

        while True:
            try:
                if not goes_on:
                    return await self._step(transaction)
                async with self._going_on:  # released after each try: the gate of other work may be free
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
