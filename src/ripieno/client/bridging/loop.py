"""The event loop of all blocking clients of a process, in a thread of its own.

All clients share it because gRPC notifies all event loops of a process through one pipe, which any
of them may read first: a loop that ended with its client would miss events and report errors.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

#: Limit of the threads that read payloads and write files for all clients together; started when needed.
_BLOCKING_THREADS = 32


class LoopThread:
    """An event loop that runs in a thread of its own until ``end`` or the interpreter's exit.

    Attributes:
        guests: The ``id()`` of each Stay that needs the loop.
    """

    def __init__(self) -> None:
        self.guests: set[int] = set()
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=_live, args=(ready,), name="ripieno-client", daemon=True)
        self._thread.start()
        self._loop, stop = ready.result()
        self._end = weakref.finalize(self, _end, self._loop, stop, self._thread, os.getpid())

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on the loop's thread."""
        return threading.current_thread() is self._thread

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine on the loop; cancelling the future cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, action: Callable[[], object]) -> None:
        """Schedule a function on the loop; nothing happens if the loop has ended."""
        if self._end.alive:
            self._loop.call_soon_threadsafe(action)

    def end(self) -> None:
        """Cancel what runs on the loop, and end the thread. May be repeated."""
        self._end()


def _live(ready: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
    async def until_stopped() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(_on_trouble)
        loop.set_default_executor(ThreadPoolExecutor(_BLOCKING_THREADS, thread_name_prefix="ripieno-client"))
        ready.set_result((loop, stop))
        await stop.wait()

    # No debug mode of asyncio, even under ``python -X dev``: the stack that it records for each call from another
    # thread ended the process with a segmentation fault (CPython 3.11.7, uvloop 0.23: once in 40 runs of 8 threads).
    with asyncio.Runner(debug=False, loop_factory=_loop_factory()) as runner:
        runner.run(until_stopped())


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: threading.Thread, process: int) -> None:
    if os.getpid() != process:
        return  # a forked child does not have the thread, and shares with its parent what would wake it
    loop.call_soon_threadsafe(stop.set)
    if threading.current_thread() is not thread:  # the garbage collector may run this on the loop's own thread
        thread.join()


def _on_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report uncaught errors, except that gRPC had an event for somebody else's loop, which has ended."""
    if "PollerCompletionQueue" not in str(context.get("handle", context.get("message"))):
        loop.default_exception_handler(context)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory if uvloop is installed (it handles more messages a second), else None."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
