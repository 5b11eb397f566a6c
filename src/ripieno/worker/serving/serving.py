"""``serve``: runs one handler in one process, one attempt at a time, until the process is told to stop."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import cast

from ripieno.config import WORKER_ADDRESS_VARIABLE
from ripieno.worker.process.borders import Borders
from ripieno.worker.process.forks import guard_forks
from ripieno.worker.process.surroundings import Surroundings
from ripieno.worker.running.handlers import is_async
from ripieno.worker.running.inbox import BlockingInbox, Inbox, LoopInbox
from ripieno.worker.running.preparation import prepared, prepared_on_loop
from ripieno.worker.running.runner import AsyncHandler, Handler, run_awaiting, run_blocking
from ripieno.worker.serving.server import WorkerServer, remove_socket
from ripieno.worker.terms.errors import ServeError

#: Seconds for which a handler that computes may keep the interpreter while the I/O has something to do.
#: With Python's own 5 ms, five results of 1 ms each gather before the first one goes out.
SWITCH_INTERVAL_S = 0.0005


def serve(
    handler: Handler | AsyncHandler,
    address: str | None = None,
    on_ready: Callable[[str], object] | None = None,
    *,
    batch: bool = True,
) -> None:
    """Serve tasks with a handler until SIGTERM or SIGINT.

    The handler runs in the calling thread (the main one, normally; a coroutine function
    on an event loop there), one attempt at a time; the I/O has a thread of its own, so that the
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

    Raises:
        ServeError: no address is given, or the worker cannot listen there.
        StartupError: a function of ``@startup`` failed.
    """
    where = address or os.environ.get(WORKER_ADDRESS_VARIABLE)
    if not where:
        raise ServeError(f"no address to serve: give one (unix:/path or HOST:PORT) or set {WORKER_ADDRESS_VARIABLE}")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    in_charge = threading.current_thread() is threading.main_thread()
    borders = Borders.of_this_process() if in_charge else Borders(None)
    if is_async(handler):
        asyncio.run(_serve_async(cast(AsyncHandler, handler), where, borders, on_ready, batch))
        return
    inbox = BlockingInbox()
    with prepared(), _listening(where, inbox, borders, on_ready, batch) as surroundings:
        run_blocking(inbox, cast(Handler, handler), surroundings)


async def _serve_async(
    handler: AsyncHandler, address: str, borders: Borders, on_ready: Callable[[str], object] | None, batch: bool
) -> None:
    loop = asyncio.get_running_loop()
    inbox = LoopInbox(loop)
    async with prepared_on_loop():
        with _listening(address, inbox, borders, on_ready, batch, loop) as surroundings:
            await run_awaiting(inbox, handler, surroundings)


@contextmanager
def _listening(
    address: str,
    inbox: Inbox,
    borders: Borders,
    on_ready: Callable[[str], object] | None,
    batch: bool,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Iterator[Surroundings | None]:
    """Run a server that feeds the inbox, and stop both on signals; ``loop`` is this thread's loop, if one runs.

    Yields the Surroundings to restore after each attempt; None in a thread that is not the main one,
    since the process, its signals and its directory belong to somebody else then.
    """
    in_charge = threading.current_thread() is threading.main_thread()
    surroundings = Surroundings(borders) if in_charge else None
    server = WorkerServer(address, inbox, borders, batch=batch)
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
            if on_ready is not None:
                on_ready(bound)
            yield surroundings
    finally:
        guard_forks("", {})
        server.stop()
        remove_socket(address)
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
