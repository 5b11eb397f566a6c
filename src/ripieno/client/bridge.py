"""From ordinary code into an event loop of one's own, and back."""

import asyncio
import functools
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from enum import Enum, auto
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
TargetT = TypeVar("TargetT")
WrappedT = TypeVar("WrappedT")
TargetT_co = TypeVar("TargetT_co", covariant=True)


class Bridge:
    """An event loop in a daemon thread, with one async context open on it.

    Any thread may call ``run`` and ``iterate``, several at a time. The context is left
    and the thread ends with ``close``, when the bridge is forgotten, or when the
    interpreter exits, whichever comes first.
    """

    def __init__(self, context: AbstractAsyncContextManager[object]) -> None:
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=_live, args=(context, ready), name="ripieno-client", daemon=True)
        self._thread.start()
        self._loop, stop = ready.result()
        self._close = weakref.finalize(self, _end, self._loop, stop, self._thread)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns.

        Cancels it when the waiting thread is interrupted (Ctrl-C).

        Raises:
            RuntimeError: the bridge is closed, now or meanwhile, or the caller is on its loop already.
        """
        if not self._close.alive or threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the client is closed" if not self._close.alive else "a blocking call on the loop")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            if self._close.alive:
                raise
            raise RuntimeError("the client was closed meanwhile") from None
        finally:
            future.cancel()  # No effect on one that is over.

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield what an async generator yields; to cross threads less often let it yield batches."""
        try:
            while (item := self.run(_next(items))) is not _End.END:
                yield item
        except GeneratorExit:
            # Whoever iterates broke off. Not waited for: this may be the garbage collector on any thread.
            if self._close.alive:
                asyncio.run_coroutine_threadsafe(items.aclose(), self._loop)
            raise

    def close(self) -> None:
        """Leave the context and end the thread; may be repeated."""
        self._close()


class _End(Enum):
    END = auto()


async def _next(items: AsyncGenerator[T, None]) -> T | _End:
    return await anext(items, _End.END)


def _live(
    context: AbstractAsyncContextManager[object], ready: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]"
) -> None:
    async def hold_open() -> None:
        stop = asyncio.Event()
        async with context:
            ready.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(hold_open())
    except Exception as error:
        if ready.done():
            raise
        ready.set_exception(error)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where it is installed: more messages a second. It is not required."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(stop.set)
    if threading.current_thread() is not thread:  # The garbage collector may run there.
        thread.join()


class Bridged(Protocol[TargetT_co]):
    """An object that stands in for another one, which lives on the bridge's loop."""

    @property
    def bridge(self) -> Bridge:
        """The way to the loop."""
        ...

    @property
    def target(self) -> TargetT_co:
        """The object there."""
        ...


def blocking(
    method: Callable[Concatenate[TargetT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Bridged[TargetT], P], T]:
    """The blocking form of an async method: same arguments, same result, same documentation."""

    @functools.wraps(method)
    def call(self: Bridged[TargetT], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.bridge.run(method(self.target, *args, **kwargs))

    return call


def blocking_as(
    wrap: Callable[[Bridge, T], WrappedT],
    method: Callable[Concatenate[TargetT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Bridged[TargetT], P], WrappedT]:
    """The same where what the method returns needs a stand-in of its own."""

    @functools.wraps(method)
    def call(self: Bridged[TargetT], /, *args: P.args, **kwargs: P.kwargs) -> WrappedT:
        return wrap(self.bridge, self.bridge.run(method(self.target, *args, **kwargs)))

    return call
