"""HealthCheck calls: asks workers whether they serve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto

import grpc.aio
from google.protobuf.message import DecodeError

from ripieno.agent.scheduling.dispatcher import Dispatcher
from ripieno.agent.scheduling.slots import Lane, Slot
from ripieno.agent.transport.channels import describe
from ripieno.domain.texts import reason
from ripieno.wire.protos.armonik_v2 import worker_service_pb2

_METHOD = "/ArmoniK.api.grpc.v1.Worker/HealthCheck"
_Reply = worker_service_pb2.HealthCheckReply

#: Seconds between two questions to an idle worker.
INTERVAL_S = 1.0
#: The same for a worker on the batch lane: while its stream is up, so is the worker
#: (eight idle workers took 2 % of a core with a question a second each).
STREAM_INTERVAL_S = 5.0
#: How long a worker may take to answer.
ANSWER_S = 2.0
#: Most bytes of a failed call's text that a complaint quotes.
DETAIL_BYTES = 500


class Health(Enum):
    """The result of one HealthCheck."""

    SERVING = auto()
    UNIMPLEMENTED = auto()  # counts as serving
    NOT_SERVING = auto()
    SILENT = auto()  # not reachable, no answer in time, or an error or unreadable bytes as answer

    @property
    def serves(self) -> bool:
        """Whether a worker with this result may be given attempts."""
        return self in (Health.SERVING, Health.UNIMPLEMENTED)


async def ask(channel: grpc.aio.Channel, answer_s: float = ANSWER_S) -> Health:
    """Ask a worker once whether it serves."""
    health, _ = await ask_why(channel, answer_s)
    return health


async def ask_why(channel: grpc.aio.Channel, answer_s: float = ANSWER_S, *, wait: bool = False) -> tuple[Health, str]:
    """Ask a worker once whether it serves, and why not as text.

    With ``wait``, a worker that is not there yet has ``answer_s`` seconds to appear.
    """
    # The reply is taken as bytes, because gRPC logs a traceback of each reply that it cannot parse.
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)
    try:
        reply = _Reply.FromString(await call(b"", timeout=answer_s, wait_for_ready=wait))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return Health.UNIMPLEMENTED, ""
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Health.SILENT, f"it did not answer HealthCheck within {answer_s:g} s"
        return Health.SILENT, f"HealthCheck failed: {reason(describe(error), DETAIL_BYTES)}"
    except DecodeError as error:
        return Health.SILENT, f"HealthCheck was answered with bytes that are no reply: {error}"
    if reply.status == _Reply.SERVING:
        return Health.SERVING, ""
    named = reply.status in _Reply.ServingStatus.values()
    return Health.NOT_SERVING, f"HealthCheck says {_Reply.ServingStatus.Name(reply.status) if named else reply.status}"


async def until_serving(channel: grpc.aio.Channel, heard: Callable[[str], None]) -> None:
    """Wait without limit until a worker serves; ``heard`` is called with the reason each time it does not."""
    while True:
        asked_at = time.monotonic()
        health, why = await ask_why(channel, wait=True)
        if health.serves:
            return
        heard(why)
        # The pause counts from the question, so a worker that fails at once is not asked more often than others.
        await asyncio.sleep(max(0.0, asked_at + INTERVAL_S - time.monotonic()))


async def watch(
    channel: grpc.aio.Channel, dispatcher: Dispatcher, slot: Slot, lane: Lane, paused: Callable[[str], None]
) -> None:
    """Ask a worker again and again while it is idle. Runs until it is cancelled.

    While the worker does not serve, its slots are given no attempts, and ``paused`` is called with the reason.
    """
    while True:
        await asyncio.sleep(STREAM_INTERVAL_S if lane.ahead and slot.lane is not None else INTERVAL_S)
        if any(each.inbox for each in slot.group):
            continue
        health, why = await ask_why(channel)
        if any(each.inbox for each in slot.group):
            continue
        if health.serves:
            if slot.lane is None:
                for each, face in zip(slot.group, lane.faces, strict=False):
                    dispatcher.up(each, face)
        elif slot.lane is not None:
            paused(why)
            dispatcher.paused(slot)
