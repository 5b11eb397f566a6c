"""Encoded replies on their way from the handler's thread to the loop that does the I/O."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

#: Bytes that may wait to be written before a handler that streams has to wait too.
OUTBOX_LIMIT_BYTES = 2 * 1024 * 1024


class Outbox:
    """Encoded replies in order, to be written by one reader on the I/O loop.

    A wake-up of another thread costs more than a small task does, so the reader is woken
    only if it sleeps; entries that gather while it writes it finds by itself. ``put`` never blocks:
    small entries always fit. A sender of much data asks for ``room`` first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = Lock()
        self._entries: deque[bytes] = deque()
        self._held_bytes = 0
        self._wakened = asyncio.Event()
        self._asleep = True
        self._finished = False
        self._closed = False
        self._room_wanted: list[Future[None]] = []

    @property
    def closed(self) -> bool:
        """Whether the reader is gone, so that entries are dropped."""
        return self._closed

    def put(self, entry: bytes) -> None:
        """Add one entry (any thread). It is dropped if the reader is gone."""
        with self._lock:
            if self._closed:
                return
            self._entries.append(entry)
            self._held_bytes += len(entry)
            wake = self._asleep
            self._asleep = False
        if wake:
            self._loop.call_soon_threadsafe(self._wakened.set)

    def finish(self) -> None:
        """Declare that nothing more will be put (any thread)."""
        with self._lock:
            self._finished = True
            wake = self._asleep and not self._closed
            self._asleep = False
        if wake:
            self._loop.call_soon_threadsafe(self._wakened.set)

    def on_loop(self, action: Callable[[], object]) -> None:
        """Schedule a function on the I/O loop (any thread)."""
        self._loop.call_soon_threadsafe(action)

    def room(self) -> Future[None] | None:
        """Return None if there is room now (any thread), else a future that is done when there is.

        The future is cancelled if the reader goes away.
        """
        with self._lock:
            if self._held_bytes < OUTBOX_LIMIT_BYTES or self._closed:
                return None
            wanted: Future[None] = Future()
            self._room_wanted.append(wanted)
            return wanted

    async def take(self, limit_bytes: int) -> list[bytes]:
        """Wait for entries and take as many as fit ``limit_bytes``, at least one; an empty list means the end."""
        while True:
            with self._lock:
                if self._entries:
                    return self._pop(limit_bytes)
                if self._finished:
                    return []
                self._asleep = True
                self._wakened.clear()
            await self._wakened.wait()

    def close(self) -> None:
        """Drop all entries and cancel all waits for room, because the reader is gone."""
        with self._lock:
            self._closed = True
            self._entries.clear()
            self._held_bytes = 0
            wanted, self._room_wanted = self._room_wanted, []
        for future in wanted:
            future.cancel()

    def _pop(self, limit_bytes: int) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        while self._entries and (not taken or size + len(self._entries[0]) <= limit_bytes):
            entry = self._entries.popleft()
            size += len(entry)
            taken.append(entry)
        self._held_bytes -= size
        if self._room_wanted and self._held_bytes < OUTBOX_LIMIT_BYTES:
            wanted, self._room_wanted = self._room_wanted, []
            for future in wanted:
                if future.set_running_or_notify_cancel():
                    future.set_result(None)
        return taken
