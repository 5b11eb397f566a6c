"""Inboxes: queues of attempts that are ready, from the I/O loop to the thread of the handler."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Protocol

from ripieno.interruptible import LOOK_UP_S
from ripieno.worker.attempts.attempt import Attempt


class Inbox(Protocol):
    """A queue of attempts that are ready for the handler, in order."""

    def put(self, attempt: Attempt) -> None:
        """Add an attempt (from the I/O loop)."""

    def stop(self) -> None:
        """Hand out no more attempts, not even those that wait (any thread, a signal handler too)."""


class BlockingInbox:
    """An inbox for a thread that runs plain functions."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self._stopped = False

    def put(self, attempt: Attempt) -> None:
        """Add an attempt."""
        self._queue.put(attempt)

    @property
    def empty(self) -> bool:
        """Whether no attempt waits."""
        return self._queue.empty()

    def stop(self) -> None:
        """Hand out no more attempts."""
        self._stopped = True
        self._queue.put(None)

    def get(self) -> Attempt | None:
        """Wait for the next attempt and return it; None once stopped."""
        attempt = None
        while attempt is None and not self._stopped:
            with suppress(Empty):
                attempt = self._queue.get(timeout=LOOK_UP_S)
        return None if self._stopped else attempt


class LoopInbox:
    """An inbox for an event loop that runs coroutine functions."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = Lock()
        self._entries: deque[Attempt] = deque()
        self._wakened = asyncio.Event()
        self._asleep = False
        self._stopped = False

    def put(self, attempt: Attempt) -> None:
        """Add an attempt."""
        with self._lock:
            self._entries.append(attempt)
            wake = self._asleep
            self._asleep = False
        if wake:
            self._loop.call_soon_threadsafe(self._wakened.set)

    @property
    def empty(self) -> bool:
        """Whether no attempt waits."""
        return not self._entries

    def stop(self) -> None:
        """Hand out no more attempts."""
        # The lock must not be taken here: a signal handler may interrupt its holder.
        self._stopped = True
        self._loop.call_soon_threadsafe(self._wakened.set)

    async def get(self) -> Attempt | None:
        """Wait for the next attempt and return it; None once stopped."""
        while not self._stopped:
            with self._lock:
                if self._entries:
                    return self._entries.popleft()
                self._asleep = True
                self._wakened.clear()
            await self._wakened.wait()
        return None


class PlacedInboxes:
    """The inboxes of a worker's places: each attempt goes to that of its place, as long as there is such a one."""

    def __init__(self, inboxes: Sequence[LoopInbox]) -> None:
        self._inboxes = inboxes

    def put(self, attempt: Attempt) -> None:
        """Add an attempt; one for a place that the worker does not have goes to another."""
        self._inboxes[attempt.place % len(self._inboxes)].put(attempt)

    def stop(self) -> None:
        """Hand out no more attempts in any place."""
        for inbox in self._inboxes:
            inbox.stop()
