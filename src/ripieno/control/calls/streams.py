"""Bidirectional streams: how both directions are served, and how a stream ends.

gRPC sends the status of a call only when no message is on its way any more: a handler that
ends while one of its writes was cancelled leaves the call open for ever. So a write is never
cancelled here. To end a stream its writer is asked to stop; it finishes its message and
returns, and the status follows. A peer that does not read its stream gets the status behind
what it has not read; if the peer has gone, the write ends by itself.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def both_ways(
    receive: Coroutine[Any, Any, None], send: Coroutine[Any, Any, None], stop: Callable[[], None]
) -> None:
    """Serve both directions of a stream; return when ``send`` does, and raise what either raises.

    Args:
        receive: Reads messages until the peer has no more. Runs in a task of its own, which
            is cancelled when ``send`` has returned.
        send: Writes messages. Runs in the handler's task, which nobody but gRPC cancels
            (when the peer has gone, and then no status is sent).
        stop: Asks ``send`` to return after the message that it writes; called when
            ``receive`` has failed.
    """
    receiving = asyncio.create_task(receive)
    receiving.add_done_callback(lambda task: None if _ended_well(task) else stop())
    try:
        await send
    finally:
        receiving.cancel()
        await asyncio.wait([receiving])
        # The receiver's error is retrieved in any case, so that asyncio does not log it where ``send`` has raised one.
        well = _ended_well(receiving)
    if not well:
        receiving.result()


def _ended_well(task: "asyncio.Task[None]") -> bool:
    return task.cancelled() or task.exception() is None
