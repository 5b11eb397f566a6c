"""Start-up and shutdown: what a worker's process does once before its first task and once after its last.

Functions register themselves when their module is imported, and run in the thread of the handler; coroutine functions
on the handler's loop, or, where the handler is a plain function, on a loop of their own.
"""

import asyncio
import inspect
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from ripieno.worker.terms.errors import HandlerError, StartupError

Preparation = TypeVar("Preparation", bound=Callable[[], Any])

_startups: list[Callable[[], Any]] = []
_shutdowns: list[Callable[[], Any]] = []


def startup(function: Preparation) -> Preparation:
    """Register a function, plain or async, that runs once in each worker process before it takes its first task.

    Functions run in the order in which they were registered, in the thread of the handler; what they return is
    ignored. The worker does not say that it serves before all have returned, however long they take. One that raises ends
    the worker with that reason, which its agent logs; the agent starts another worker, with pauses of up to 5 s
    between tries, and no attempt is used up::

        @worker.startup
        def load() -> None:
            global model
            model = read_model("weights.bin")

    Raises:
        HandlerError: what is registered is no function that can be called without arguments.
    """
    _startups.append(_checked(function, "startup"))
    return function


def shutdown(function: Preparation) -> Preparation:
    """Register a function, plain or async, that runs once when the worker ends, after its last task.

    Functions run in the reverse order of their registration, in the thread of the handler, once the last answers have
    been sent. An agent that ends a worker kills it 2 s after it has asked it to end, and a worker that crashes or is
    killed runs none: use this for what is good to do, not for what must be done. The traceback of one that raises is
    printed, and the others run. None runs if a function of ``startup`` has failed.

    Raises:
        HandlerError: as for ``startup``.
    """
    _shutdowns.append(_checked(function, "shutdown"))
    return function


@contextmanager
def prepared() -> Iterator[None]:
    """Run the functions of ``startup`` before the block and those of ``shutdown`` after it, in this thread.

    Raises:
        StartupError: one of the former has failed.
    """
    for function in _startups:
        try:
            _run(function)
        except Exception as error:
            raise _failure(function, error) from error
    try:
        yield
    finally:
        for function in reversed(_shutdowns):
            try:
                _run(function)
            except Exception:  # noqa: BLE001 - the others run
                _tell(function)


@asynccontextmanager
async def prepared_on_loop() -> AsyncIterator[None]:
    """Do what ``prepared`` does, on the running loop."""
    for function in _startups:
        try:
            await _run_on_loop(function)
        except Exception as error:
            raise _failure(function, error) from error
    try:
        yield
    finally:
        for function in reversed(_shutdowns):
            try:
                await _run_on_loop(function)
            except Exception:  # noqa: BLE001 - the others run
                _tell(function)


def _run(function: Callable[[], Any]) -> None:
    value = function()
    if inspect.isawaitable(value):

        async def awaited() -> None:
            await value

        asyncio.run(awaited())


async def _run_on_loop(function: Callable[[], Any]) -> None:
    value = function()
    if inspect.isawaitable(value):
        await value


def _checked(function: Callable[[], Any], kind: str) -> Callable[[], Any]:
    if not callable(function):
        raise HandlerError(
            f"@{kind} registers a function, not {type(function).__name__}; write @worker.{kind} above one"
        )
    return function


def _name(function: Callable[[], Any]) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or '?'}:{name}"


def _failure(function: Callable[[], Any], error: Exception) -> StartupError:
    told = "".join(traceback.format_exception_only(error)).strip()
    return StartupError(f"the start-up function {_name(function)} failed: {told}")


def _tell(function: Callable[[], Any]) -> None:
    if sys.stderr is not None:
        print(f"ripieno worker: the shutdown function {_name(function)} failed:", file=sys.stderr)
    traceback.print_exc()
