"""``Bridge``: how blocking code runs coroutines on the event loop that all blocking clients share."""

import functools
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from enum import Enum, auto
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ripieno.client.bridging.stay import Stay
from ripieno.interruptible import result_of

P = ParamSpec("P")
T = TypeVar("T")
TargetT = TypeVar("TargetT")
WrappedT = TypeVar("WrappedT")
TargetT_co = TypeVar("TargetT_co", covariant=True)


class Bridge:
    """An async context that is held open on the loop of all blocking clients.

    Any thread may call ``run`` and ``iterate``, several at a time. The context is left
    with ``close``, when the bridge is garbage-collected, or when the interpreter exits, whichever
    comes first. It is also left before a fork and entered again afterwards, and has to allow that.
    """

    def __init__(self, context: AbstractAsyncContextManager[object]) -> None:
        self._stay = Stay(context)
        self._close = weakref.finalize(self, self._stay.end)
        self._stay.begin()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns.

        The coroutine is cancelled when the waiting thread is interrupted (Ctrl-C).

        Raises:
            RuntimeError: the bridge is closed, before or during the call, or was made before a fork
                of this process, or the caller is on the loop already.
        """
        future = self._stay.start(work)
        try:
            return result_of(future)
        except CancelledError:
            if self._close.alive:
                raise
            raise RuntimeError("the client was closed meanwhile") from None
        finally:
            future.cancel()  # No effect on a future that is done.
            self._stay.under_way.discard(future)

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine on the loop and return at once. It is cancelled when the bridge is closed.

        Raises:
            RuntimeError: as for ``run``.
        """
        future = self._stay.start(work)
        future.add_done_callback(self._stay.under_way.discard)
        return future

    def hold(self, holder: object) -> None:
        """Keep the context from being left before a fork until ``release``; ``holder`` is compared by equality."""
        self._stay.under_way.add(holder)

    def release(self, holder: object) -> None:
        """Undo ``hold``; may be repeated."""
        self._stay.under_way.discard(holder)

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield an async generator's items. Each item crosses threads once; batches cross less often."""
        iteration = object()
        self._stay.under_way.add(iteration)
        try:
            while (item := self.run(_next(items))) is not _End.END:
                yield item
        except GeneratorExit:
            # The consumer stopped early. Closing is not waited for: this may be the garbage collector on any thread.
            if self._close.alive:
                self._stay.give_up(items)
            raise
        finally:
            self._stay.under_way.discard(iteration)

    def close(self) -> None:
        """Leave the context; may be repeated."""
        self._close()


class _End(Enum):
    END = auto()


async def _next(items: AsyncGenerator[T, None]) -> T | _End:
    return await anext(items, _End.END)


class Bridged(Protocol[TargetT_co]):
    """An object that stands in for another one, which lives on the bridge's loop."""

    @property
    def bridge(self) -> Bridge:
        """The bridge to the loop on which ``target`` lives."""
        ...

    @property
    def target(self) -> TargetT_co:
        """The object that this one stands in for."""
        ...


def blocking(
    method: Callable[Concatenate[TargetT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Bridged[TargetT], P], T]:
    """Return the blocking form of an async method: same arguments, same result, same documentation."""

    @functools.wraps(method)
    def call(self: Bridged[TargetT], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.bridge.run(method(self.target, *args, **kwargs))

    return call


def blocking_as(
    wrap: Callable[[Bridge, T], WrappedT],
    method: Callable[Concatenate[TargetT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Bridged[TargetT], P], WrappedT]:
    """Return the blocking form of an async method whose result ``wrap`` turns into a blocking stand-in."""

    @functools.wraps(method)
    def call(self: Bridged[TargetT], /, *args: P.args, **kwargs: P.kwargs) -> WrappedT:
        return wrap(self.bridge, self.bridge.run(method(self.target, *args, **kwargs)))

    return call
