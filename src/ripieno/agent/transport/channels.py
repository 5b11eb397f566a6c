"""gRPC channels of the agent: to the control plane, and to workers."""

import asyncio

import grpc.aio

from ripieno.domain.addresses import parse_address
from ripieno.wire.channels import open_channel

#: Short reconnect pauses, so that a peer that comes back is found again soon.
_PROMPT = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
#: How many bytes a peer may send that we have not read. Left to itself gRPC widens this
#: with the bandwidth it sees, and holds that much in memory while a disk is slow (74 MiB of
#: growth were seen for 1 GiB); 4 MiB still carry 400 MB/s over a way of 10 ms.
_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024)]


def control_channel(address: str) -> grpc.aio.Channel:
    """Open a separate gRPC channel to a replica of the control plane."""
    return open_channel(parse_address("control", address), [*_PROMPT, *_WINDOW])


def worker_channel(address: str) -> grpc.aio.Channel:
    """Open a separate gRPC channel to a worker at ``unix:/path`` or ``HOST:PORT``."""
    # The authority is fixed over TCP as well: only the agent decides what a worker's authority is.
    return open_channel(parse_address("worker", address), [*_PROMPT, ("grpc.default_authority", "localhost")])


def reraise_own_cancellation() -> None:
    """Raise CancelledError if the current task itself was cancelled, whatever else was caught.

    Call it inside an ``except`` that catches CancelledError: a gRPC call that is cancelled, or whose
    channel is closed, raises CancelledError in the task that awaits it, which is an error of the call
    and no reason for the task to end. Call it after an ``except*`` as well: a task group whose child
    fails just when its parent is cancelled raises the child's error alone (Python 3.11), and a task
    that handles that error and goes on would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def describe(error: BaseException) -> str:
    """Return the status code and detail of a failed gRPC call as text, or the ``repr`` of any other error."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details() or 'no detail'}"
    return "the call was cancelled" if isinstance(error, asyncio.CancelledError) else repr(error)
