"""The event loop of all blocking clients of a process, in a thread of its own.

One for all: gRPC tells all event loops of a process of their events by one pipe, which whichever
of them reads first; a loop that ends meanwhile, with its client, misses some and complains.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

#: Threads that read payloads and write files, of all clients together; made when they are needed.
_BLOCKING_THREADS = 32


class LoopThread:
    """A running event loop. Ends with ``end`` or with the interpreter.

    Attributes:
        guests: Whoever needs it, by ``id()``.
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
        """Whether the caller runs on it."""
        return threading.current_thread() is self._thread

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine on the loop; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, action: Callable[[], object]) -> None:
        """Call a function on the loop, soon; nothing happens if it has ended."""
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

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(until_stopped())


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: threading.Thread, process: int) -> None:
    if os.getpid() != process:
        return  # a child of a fork: neither the thread nor what would wake it is its own
    loop.call_soon_threadsafe(stop.set)
    if threading.current_thread() is not thread:  # the garbage collector may run there
        thread.join()


def _on_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what nobody caught; but not that gRPC had news for a loop of somebody else that has ended."""
    if "PollerCompletionQueue" not in str(context.get("handle", context.get("message"))):
        loop.default_exception_handler(context)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where it is installed: more messages a second. It is not required."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
