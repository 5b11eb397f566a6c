"""``Stay``: one async context on the loop of all blocking clients, left before forks and entered again."""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar

from ripieno.client.bridging.loop import LoopThread
from ripieno.client.connection import forks

T = TypeVar("T")

#: The loop that all blocking clients share; None before the first client and after forks.
_shared: LoopThread | None = None


def _shared_loop() -> LoopThread:
    """Return the loop of this process, started if need be. The caller holds the gate."""
    global _shared
    if _shared is None:
        _shared = LoopThread()
    return _shared


def _end_shared_loop() -> None:
    """End the loop if no stay needs it. The caller holds the gate."""
    global _shared
    if _shared is not None and not _shared.guests:
        _shared.end()
        _shared = None


def _forget_shared_loop() -> None:
    """Abandon the parent's loop in a forked child, which lacks its thread and shares its descriptors."""
    global _shared
    if _shared is not None:
        _inherited.append(_shared)
        _shared = None


#: Loops inherited through forks. The list keeps them from being garbage-collected: nothing may touch them.
_inherited: list[LoopThread] = []

forks.share(_end_shared_loop, _forget_shared_loop)


class Stay:
    """An async context on the shared loop, which it leaves before a fork and enters again with the next call.

    Attributes:
        under_way: Calls, and iterations between two calls, which have to end before the stay can rest.
    """

    def __init__(self, context: AbstractAsyncContextManager[object]) -> None:
        self.under_way: set[object] = set()
        self._context = context
        self._process = os.getpid()
        self._ended = False
        self._loop: LoopThread | None = None
        self._stop: asyncio.Event | None = None
        self._left: Future[None] | None = None
        forks.register(self)

    def begin(self) -> None:
        """Enter the context.

        Raises:
            Exception: whatever entering the context raised.
        """
        with forks.gate:
            self._enter()

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine on the loop; it is cancelled when this stay ends.

        Raises:
            RuntimeError: the stay has ended, or began before a fork of this process, or the
                caller is on the loop already.
        """
        try:
            self._check()
            with forks.gate:
                self._check()  # the stay may have ended while this thread waited for the gate
                loop = self._enter()
                future = loop.start(work)
                self.under_way.add(future)
        except BaseException:
            work.close()
            raise
        return future

    def give_up(self, items: AsyncGenerator[T, None]) -> None:
        """Schedule the closing of a generator. No-op if the stay rests, which has closed it already."""
        if self._loop is not None and self._process == os.getpid():
            self._loop.start(items.aclose())

    def try_to_rest(self) -> bool:
        """Leave the context until the next call. Return False, with nothing changed, if a call is under way."""
        if self._process == os.getpid() and not self._ended:
            if self.under_way or (self._loop is not None and self._loop.is_current):
                return False
            self._leave()
        return True

    def end(self) -> None:
        """Cancel calls that are under way and leave the context for good."""
        self._ended = True
        if self._process == os.getpid():
            for work in list(self.under_way):
                if isinstance(work, Future):
                    work.cancel()
            self._leave()

    def _check(self) -> None:
        if self._process != os.getpid():
            raise RuntimeError(
                f"the client was opened in process {self._process}, before this one was forked from it: open a client"
                " in the process that uses it"
            )
        if self._ended:
            raise RuntimeError("the client is closed")
        if self._loop is not None and self._loop.is_current:
            raise RuntimeError("a blocking call on the loop")

    def _enter(self) -> LoopThread:
        if self._loop is None:
            forks.check()  # may raise, so it comes before a thread is started for nothing
            entered: Future[asyncio.Event] = Future()
            loop = _shared_loop()
            left = loop.start(self._hold_open(entered))
            try:
                self._stop = entered.result()
            except BaseException:  # the context refused to be entered, or Ctrl-C came just now
                left.cancel()
                raise
            self._loop, self._left = loop, left
            loop.guests.add(id(self))
        return self._loop

    async def _hold_open(self, entered: "Future[asyncio.Event]") -> None:
        stop = asyncio.Event()
        try:
            async with self._context:
                entered.set_result(stop)
                await stop.wait()
        except Exception as error:
            if entered.done():
                raise
            entered.set_exception(error)

    def _leave(self) -> None:
        loop, stop, left = self._loop, self._stop, self._left
        self._loop = self._stop = self._left = None
        if loop is None or stop is None or left is None:
            return
        loop.guests.discard(id(self))
        loop.call(stop.set)
        if loop.is_current:  # the garbage collector may run this on the loop's own thread
            return
        with suppress(CancelledError):  # the loop has ended, and with it the context
            left.result()
        # Do not wait for the gate: the collector may run this in a thread that holds it. Then the loop idles on.
        if not loop.guests and forks.gate.acquire(blocking=False):
            try:
                _end_shared_loop()
            finally:
                forks.gate.release()
