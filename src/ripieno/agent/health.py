"""Asking workers whether they serve."""

from __future__ import annotations

import asyncio
from enum import Enum, auto

import grpc.aio

from ripieno.agent.dispatcher import Dispatcher
from ripieno.agent.slots import Lane, Slot
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2, worker_service_pb2_grpc

#: Between two questions to an idle worker, and how long it may take to answer.
INTERVAL_S = 1.0
#: The same for a worker that serves over a stream of its own: when that stands, so does the worker
#: (eight idle workers took 2 % of a core with a question a second each).
STREAM_INTERVAL_S = 5.0
ANSWER_S = 2.0


class Health(Enum):
    """What a worker says of itself."""

    SERVING = auto()
    UNIMPLEMENTED = auto()  # counts as serving
    NOT_SERVING = auto()
    SILENT = auto()  # not reachable, or no answer in time

    @property
    def serves(self) -> bool:
        """Whether it may be given attempts."""
        return self in (Health.SERVING, Health.UNIMPLEMENTED)


async def ask(channel: grpc.aio.Channel, answer_s: float = ANSWER_S, *, wait: bool = False) -> Health:
    """Ask once. With ``wait``, a worker that is not there yet has ``answer_s`` to appear."""
    stub = worker_service_pb2_grpc.WorkerStub(channel)
    try:
        reply = await stub.HealthCheck(objects_pb2.Empty(), timeout=answer_s, wait_for_ready=wait)
    except grpc.aio.AioRpcError as error:
        return Health.UNIMPLEMENTED if error.code() is grpc.StatusCode.UNIMPLEMENTED else Health.SILENT
    if reply.status == worker_service_pb2.HealthCheckReply.SERVING:
        return Health.SERVING
    return Health.NOT_SERVING


async def until_serving(channel: grpc.aio.Channel) -> None:
    """Wait, as long as it takes, until a worker serves."""
    while not (health := await ask(channel, wait=True)).serves:
        if health is Health.NOT_SERVING:
            await asyncio.sleep(INTERVAL_S)


async def watch(channel: grpc.aio.Channel, dispatcher: Dispatcher, slot: Slot, lane: Lane) -> None:
    """Keep asking while the worker is idle; it is given nothing while it does not serve."""
    while True:
        await asyncio.sleep(STREAM_INTERVAL_S if lane.ahead and slot.lane is not None else INTERVAL_S)
        if slot.inbox:
            continue
        serves = (await ask(channel)).serves
        if slot.inbox:
            continue
        if not serves:
            dispatcher.paused(slot)
        elif slot.lane is None:
            dispatcher.up(slot, lane)
