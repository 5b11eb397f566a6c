"""From ordinary code to the event loop of all blocking clients, and back."""

import functools
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
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
    """One async context, open on the loop of all blocking clients.

    Any thread may call ``run`` and ``iterate``, several at a time. The context is left
    with ``close``, when the bridge is forgotten, or when the interpreter exits, whichever
    comes first; and entered anew after a fork. It has to allow that.
    """

    def __init__(self, context: AbstractAsyncContextManager[object]) -> None:
        self._stay = Stay(context)
        self._close = weakref.finalize(self, self._stay.end)
        self._stay.begin()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns.

        Cancels it when the waiting thread is interrupted (Ctrl-C).

        Raises:
            RuntimeError: the bridge is closed, now or meanwhile, or was made before a fork of
                this process, or the caller is on the loop already.
        """
        future = self._stay.start(work)
        try:
            return result_of(future)
        except CancelledError:
            if self._close.alive:
                raise
            raise RuntimeError("the client was closed meanwhile") from None
        finally:
            future.cancel()  # No effect on one that is over.
            self._stay.under_way.discard(future)

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield what an async generator yields; to cross threads less often let it yield batches."""
        iteration = object()
        self._stay.under_way.add(iteration)
        try:
            while (item := self.run(_next(items))) is not _End.END:
                yield item
        except GeneratorExit:
            # Whoever iterates broke off. Not waited for: this may be the garbage collector on any thread.
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
