"""The runners: run a handler on one attempt at a time, and end each attempt as its handler ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ripieno.worker.attempts import operations
from ripieno.worker.attempts.attempt import Attempt
from ripieno.worker.attempts.drivers import awaiting, blocking
from ripieno.worker.author.task import AsyncTask, Task
from ripieno.worker.process.forks import end_child, is_forked
from ripieno.worker.process.surroundings import Surroundings
from ripieno.worker.running.failures import describe, detail_of, value_of
from ripieno.worker.running.inbox import BlockingInbox, LoopInbox
from ripieno.worker.terms.errors import TaskCancelled, TaskError

Handler = Callable[[Task], bytes | bytearray | memoryview | None]
AsyncHandler = Callable[[AsyncTask], Awaitable[bytes | bytearray | memoryview | None]]


class Restore(Protocol):
    """Puts back what an attempt changed in its process; ``idle`` is true when no attempt waits behind it."""

    def __call__(self, *, idle: bool) -> None: ...


#: Seconds for which attempts may follow one another before the loop's other tasks have their turn.
YIELD_AFTER_S = 0.001


def run_blocking(inbox: BlockingInbox, handler: Handler, surroundings: Surroundings | None) -> None:
    """Run a plain function on each attempt, in this thread, until the inbox stops.

    Args:
        surroundings: Restored after each attempt; None if the process belongs to somebody else.
    """
    while (attempt := inbox.get()) is not None:
        if attempt.begin():
            _run(attempt, handler)
            if surroundings is not None:
                surroundings.restore(idle=inbox.empty)


def run_one_blocking(attempt: Attempt, handler: Handler) -> None:
    """Run a plain function on one attempt that has nothing before or behind it, in this thread."""
    if attempt.begin():
        _run(attempt, handler)


async def run_one_awaiting(attempt: Attempt, handler: AsyncHandler) -> None:
    """Run a coroutine function on one attempt that has nothing before or behind it, on this loop."""
    if attempt.begin():
        await _run_interruptibly(attempt, handler)


def _run(attempt: Attempt, handler: Handler) -> None:
    try:
        value = handler(Task(attempt))
        if is_forked():
            end_child(None)
        if type(value) is bytes and _finish_shortly(attempt, value):
            return
        blocking(operations.complete(attempt, value))
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises ends its attempt, not the worker
        _end(attempt, error)


async def run_awaiting(inbox: LoopInbox, handler: AsyncHandler, restore: Restore | None) -> None:
    """Run a coroutine function on each attempt, on this loop, until the inbox stops.

    ``restore`` is called after each attempt; None if the process belongs to somebody else. All attempts run in the calling task, since a task for each costs more than a small
    attempt does; a cancelled attempt has the task cancelled while its coroutine is suspended.
    """
    loop = asyncio.get_running_loop()
    yielded_at = loop.time()
    while (attempt := await inbox.get()) is not None:
        if attempt.begin():
            await _run_interruptibly(attempt, handler)
            if restore is not None:
                restore(idle=inbox.empty)
        if loop.time() - yielded_at > YIELD_AFTER_S:
            # Attempts that never suspend must not keep the handler's other tasks from running.
            await asyncio.sleep(0)
            yielded_at = loop.time()


async def run_together(inboxes: Sequence[LoopInbox], handler: AsyncHandler, surroundings: Surroundings | None) -> None:
    """Do what ``run_awaiting`` does for several inboxes at a time, each attempt in the task of its inbox.

    The surroundings belong to all attempts that run, so they are restored when none does.
    """
    running = 0

    async def counted(task: AsyncTask) -> bytes | bytearray | memoryview | None:
        nonlocal running
        running += 1
        try:
            return await handler(task)
        finally:
            running -= 1

    def restore(*, idle: bool) -> None:
        if surroundings is not None and not running:
            surroundings.restore(idle=idle)

    async with asyncio.TaskGroup() as group:
        for inbox in inboxes:
            group.create_task(run_awaiting(inbox, counted, restore))


async def _run_interruptibly(attempt: Attempt, handler: AsyncHandler) -> None:
    """Run one attempt so that cancelling it cancels its coroutine, and no later attempt's."""
    runner = asyncio.current_task()
    assert runner is not None
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if not attempt.over:
            runner.cancel()

    attempt.interrupt = lambda: loop.call_soon_threadsafe(interrupt)
    # A cancel that came before the line above has only set the flag.
    if attempt.cancelled:
        _end(attempt, TaskCancelled())
    else:
        await _run_async(attempt, handler)
    attempt.interrupt = None
    while runner.cancelling():
        runner.uncancel()


async def _run_async(attempt: Attempt, handler: AsyncHandler) -> None:
    try:
        value = await handler(AsyncTask(attempt))
        if is_forked():
            end_child(None)
        if type(value) is bytes and _finish_shortly(attempt, value):
            return
        await awaiting(operations.complete(attempt, value))
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises ends its attempt, not the worker
        _end(attempt, error)


def _finish_shortly(attempt: Attempt, value: bytes) -> bool:
    """End an attempt with one result in one chunk, the commonest answer; return False if it needs another."""
    if attempt.cancelled or len(value) > attempt.chunk_bytes:
        return False
    place = attempt.objects
    if place is not None and len(value) > place.larger_than_bytes:
        return False
    key = attempt.sole_key()
    if key is None or attempt.open_results or attempt.open_objects:
        return False
    attempt.finish_with_result(key, value)
    return True


def _end(attempt: Attempt, error: BaseException) -> None:
    """End an attempt whose handler raised."""
    if is_forked():
        end_child(error)
    if attempt.over:
        raise error
    if attempt.broken is not None:
        attempt.fail(attempt.broken)
    elif attempt.cancelled:
        # A cancelled attempt no longer counts; the agent is told how it ended all the same.
        stopped = isinstance(error, TaskCancelled | asyncio.CancelledError)
        attempt.fail("cancelled" if stopped else describe(error))
    elif isinstance(error, TaskError):
        operations.fail_for_good(attempt, detail_of(error), value_of(error))
    else:
        attempt.fail(describe(error), value_of(error))
