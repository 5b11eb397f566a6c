"""The two ways to run an operation: in a thread that waits, and on an event loop.

An operation is a generator: it yields each future that it must wait for and returns its
value. All that a handler can do is written once, as operations, for blocking and for
asynchronous handlers.
"""

import asyncio
import concurrent.futures
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, TypeVar

from ripieno.interruptible import result_of
from ripieno.worker.terms.errors import TaskCancelled

T = TypeVar("T")
Operation = Generator[Future[Any], Any, T]

BytesLike = bytes | bytearray | memoryview


def blocking(operation: Operation[T]) -> T:
    """Run an operation and return its value, blocking the thread while the operation waits.

    Raises:
        TaskCancelled: the attempt was cancelled meanwhile.
    """
    try:
        future = next(operation)
        while True:
            try:
                answer = result_of(future)
            except concurrent.futures.CancelledError:
                future = operation.throw(TaskCancelled())
            else:
                future = operation.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def awaiting(operation: Operation[T]) -> T:
    """Run an operation on the running loop and return its value.

    Raises:
        TaskCancelled: the operation found the attempt cancelled.
        asyncio.CancelledError: the attempt was cancelled while the operation waited.
    """
    try:
        future = next(operation)
        while True:
            try:
                answer = await asyncio.wrap_future(future)
            except asyncio.CancelledError as cancelled:
                future = operation.throw(cancelled)
            else:
                future = operation.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
