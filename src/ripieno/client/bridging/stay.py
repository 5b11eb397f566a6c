"""The time that one context spends on the loop of all blocking clients, with breaks for forks."""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar

from ripieno.client.bridging.loop import LoopThread
from ripieno.client.connection import forks

T = TypeVar("T")

#: Where all blocking clients live; None before the first one and after forks.
_shared: LoopThread | None = None


def _shared_loop() -> LoopThread:
    """The loop of this process; call it with the gate held."""
    global _shared
    if _shared is None:
        _shared = LoopThread()
    return _shared


def _end_shared_loop() -> None:
    """End the loop if nobody is there; call it with the gate held."""
    global _shared
    if _shared is not None and not _shared.guests:
        _shared.end()
        _shared = None


def _forget_shared_loop() -> None:
    """The child's own: its thread stayed with the parent, with which it shares its descriptors."""
    global _shared
    if _shared is not None:
        _inherited.append(_shared)
        _shared = None


#: Loops that are never touched again, not even by being collected.
_inherited: list[LoopThread] = []

forks.share(_end_shared_loop, _forget_shared_loop)


class Stay:
    """A context's time on the loop, which forks interrupt.

    Attributes:
        under_way: What has to end before it can rest: calls, and iterations between two calls.
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
            Exception: whatever kept it from being entered.
        """
        with forks.gate:
            self._enter()

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine on the loop; ends with this stay.

        Raises:
            RuntimeError: the stay has ended, or began before a fork of this process, or the
                caller is on the loop already.
        """
        try:
            self._check()
            with forks.gate:
                self._check()  # it may have ended while this thread waited
                loop = self._enter()
                future = loop.start(work)
                self.under_way.add(future)
        except BaseException:
            work.close()
            raise
        return future

    def give_up(self, items: AsyncGenerator[T, None]) -> None:
        """Close a generator, soon; resting has closed it already."""
        if self._loop is not None and self._process == os.getpid():
            self._loop.start(items.aclose())

    def try_to_rest(self) -> bool:
        """Leave the context until the next call; False, and nothing changed, if a call is under way."""
        if self._process == os.getpid() and not self._ended:
            if self.under_way or (self._loop is not None and self._loop.is_current):
                return False
            self._leave()
        return True

    def end(self) -> None:
        """Cancel what is under way and leave the context for good."""
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
            forks.check()  # before a thread is started for nothing
            entered: Future[asyncio.Event] = Future()
            loop = _shared_loop()
            left = loop.start(self._hold_open(entered))
            try:
                self._stop = entered.result()
            except BaseException:  # refused, or Ctrl-C just now
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
        if loop.is_current:  # the garbage collector may run there
            return
        with suppress(CancelledError):  # the loop has ended, and the context with it
            left.result()
        # Not waited for: the collector may also run in a thread that holds the gate. Then the loop idles on.
        if not loop.guests and forks.gate.acquire(blocking=False):
            try:
                _end_shared_loop()
            finally:
                forks.gate.release()
