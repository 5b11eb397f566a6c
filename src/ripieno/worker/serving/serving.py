"""``serve``: runs one handler in one process until the process is told to stop."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import cast

from ripieno.config import WORKER_ADDRESS_VARIABLE
from ripieno.worker.author.task_log import name_tasks_in_logs
from ripieno.worker.process.borders import Borders
from ripieno.worker.process.forks import guard_forks
from ripieno.worker.process.surroundings import Surroundings
from ripieno.worker.running.handlers import is_async
from ripieno.worker.running.inbox import BlockingInbox, Inbox, LoopInbox, PlacedInboxes
from ripieno.worker.running.preparation import prepared, prepared_on_loop
from ripieno.worker.running.runner import AsyncHandler, Handler, run_awaiting, run_blocking, run_together
from ripieno.worker.serving.server import WorkerServer, remove_socket
from ripieno.worker.terms.errors import HandlerError, ServeError

#: Seconds for which a handler that computes may keep the interpreter while the I/O has something to do.
#: With Python's own 5 ms, five results of 1 ms each gather before the first one goes out.
SWITCH_INTERVAL_S = 0.0005


def serve(
    handler: Handler | AsyncHandler,
    address: str | None = None,
    on_ready: Callable[[str], object] | None = None,
    *,
    batch: bool = True,
    concurrency: int = 1,
) -> None:
    """Serve tasks with a handler until SIGTERM or SIGINT.

    The handler runs in the calling thread (the main one, normally; a coroutine function
    on an event loop there), one attempt at a time unless ``concurrency`` says otherwise; the I/O has a thread of its own, so that the
    worker answers while a handler runs. A first signal lets the running attempt finish
    and gives back attempts that have not begun; a second one ends the process at once.

    A handler may start processes of any kind, fork ones too, threads and event loops. In the main
    thread, the current directory, the umask, the standard streams and the worker's own signals are
    put back before another task could be disturbed by what a handler did to them.

    Functions of ``@startup`` run first, in the same thread, and those of ``@shutdown`` at the end. The current
    directory and the rest are put back to what they were after the start-up.

    Args:
        handler: ``def handle(task: Task)`` or ``async def handle(task: AsyncTask)``. Bytes that
            it returns are the task's single result. TaskError fails the task for good; any
            other exception fails the attempt.
        address: ``unix:/path`` or ``HOST:PORT``; None takes the environment variable
            RIPIENO_WORKER_ADDRESS.
        on_ready: Called with the address once the worker listens.
        batch: False serves ``Worker`` alone, as a worker of another make does: one call
            an attempt. Tasks can do the same then, at a higher cost.
        concurrency: How many attempts this process runs at a time, on its one event loop: for coroutine functions
            that wait for others most of the time. Time limits and cancellations stay those of each attempt, but what
            they print is no attempt's own, and if the process dies all that run have failed. Without ``batch`` it
            has no effect: there is one call at a time.

    Raises:
        HandlerError: several attempts at a time with a handler that is a plain function, or less than one.
        ServeError: no address is given, or the worker cannot listen there.
        StartupError: a function of ``@startup`` failed.
    """
    where = address or os.environ.get(WORKER_ADDRESS_VARIABLE)
    if not where:
        raise ServeError(f"no address to serve: give one (unix:/path or HOST:PORT) or set {WORKER_ADDRESS_VARIABLE}")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _check_concurrency(concurrency, handler)
    in_charge = threading.current_thread() is threading.main_thread()
    borders = Borders.of_this_process() if in_charge else Borders(None)
    if concurrency > 1:
        borders = Borders(None)  # nobody could say which attempt has printed what
        name_tasks_in_logs()
    place = _Place(where, borders, on_ready, batch, concurrency)
    if is_async(handler):
        asyncio.run(_serve_async(cast(AsyncHandler, handler), place))
        return
    inbox = BlockingInbox()
    with prepared(), _listening(place, inbox) as surroundings:
        run_blocking(inbox, cast(Handler, handler), surroundings)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where and how to serve; the fields are arguments of ``serve`` and of ``WorkerServer``."""

    address: str
    borders: Borders
    on_ready: Callable[[str], object] | None
    batch: bool
    concurrency: int


def _check_concurrency(concurrency: int, handler: Handler | AsyncHandler) -> None:
    if concurrency < 1:
        raise HandlerError(f"concurrency is {concurrency}; a worker runs one attempt at a time at least")
    if concurrency > 1 and not is_async(handler):
        raise HandlerError(
            f"concurrency is {concurrency}, and the handler is a plain function, which runs one attempt at a time: make it"
            " a coroutine function (async def), or start more workers (more slots of the agent)"
        )


async def _serve_async(handler: AsyncHandler, place: _Place) -> None:
    loop = asyncio.get_running_loop()
    inboxes = [LoopInbox(loop) for _ in range(place.concurrency)]
    async with prepared_on_loop():
        with _listening(place, PlacedInboxes(inboxes), loop) as surroundings:
            if len(inboxes) > 1:
                await run_together(inboxes, handler, surroundings)
            else:
                await run_awaiting(inboxes[0], handler, surroundings.restore if surroundings is not None else None)


@contextmanager
def _listening(
    place: _Place,
    inbox: Inbox,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Iterator[Surroundings | None]:
    """Run a server that feeds the inbox, and stop both on signals; ``loop`` is this thread's loop, if one runs.

    Yields the Surroundings to restore after each attempt; None in a thread that is not the main one,
    since the process, its signals and its directory belong to somebody else then.
    """
    in_charge = threading.current_thread() is threading.main_thread()
    surroundings = Surroundings(place.borders) if in_charge else None
    server = WorkerServer(place.address, inbox, place.borders, batch=place.batch, places=place.concurrency)
    bound = server.start()

    def stop() -> None:
        if surroundings is not None:
            surroundings.keep_signals({})
        inbox.stop()
        server.drain()

    try:
        with _stopping_on_signals(stop, loop, in_charge=in_charge) as handlers:
            guard_forks(bound, handlers)
            if surroundings is not None:
                surroundings.keep_signals(handlers)
            if place.on_ready is not None:
                place.on_ready(bound)
            yield surroundings
    finally:
        guard_forks("", {})
        server.stop()
        remove_socket(place.address)
        if surroundings is not None:
            surroundings.close()


@contextmanager
def _stopping_on_signals(
    stop: Callable[[], object], loop: asyncio.AbstractEventLoop | None, *, in_charge: bool
) -> Iterator[Mapping[signal.Signals, object]]:
    """Call ``stop`` on the first SIGTERM or SIGINT; let the second one take its usual effect.

    A loop gets its signals by ``add_signal_handler``: a plain handler would not run while the loop
    waits for events, if the signal arrived just before. Yields the handlers in force, by signal.
    """
    if not in_charge:
        yield {}
        return
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal(_number: int = 0, _frame: FrameType | None = None) -> None:
        for number in signals:
            if loop is not None:
                loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stop()

    before = {number: signal.signal(number, on_signal) for number in signals}
    if loop is not None:
        for number in signals:
            loop.add_signal_handler(number, on_signal)
    try:
        yield {number: signal.getsignal(number) for number in signals}
    finally:
        for number, action in before.items():
            if loop is not None:
                loop.remove_signal_handler(number)
            signal.signal(number, action)
