"""P14: what a cluster costs that has nothing to do while a thousand clients wait."""

import asyncio
import time

import uvloop

from benchmarks.bare.client import Stub, create_session, submitter
from benchmarks.clusters import Cluster, python_worker, up
from benchmarks.figures import Figure, at_most
from benchmarks.footprint import processor_s
from benchmarks.scale import Scale
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2

WAITERS = 1_000
SLOTS = 8


def measure(scale: Scale) -> list[Figure]:
    """Processor time of all processes of the cluster, as a share of one core."""
    with up(python_worker("no_op"), slots=SLOTS) as cluster:
        share, parts = uvloop.run(_idle(cluster, scale.of(30, 5)))
    how = f"{WAITERS:,} WaitForAvailability calls, {SLOTS} idle workers, 1 agent, over {scale.of(30, 5)} s: {parts}"
    return [Figure("idle with waiters, of one core", share, "%", how, at_most(2))]


async def _idle(cluster: Cluster, seconds: int) -> tuple[float, str]:
    async with submitter(cluster.address) as stub, asyncio.TaskGroup() as group:
        session = await create_session(stub)
        waits = [group.create_task(_wait(stub, session, key)) for key in await _blocked(stub, session)]
        await asyncio.sleep(3)  # all of them have arrived, start-up is over
        before, began = processor_s(cluster.roots), time.perf_counter()
        await asyncio.sleep(seconds)
        after, took = processor_s(cluster.roots), time.perf_counter() - began
        assert not any(wait.done() for wait in waits)
        for wait in waits:
            wait.cancel()
    parts = {kind: (spent - before.get(kind, 0.0)) / took * 100 for kind, spent in after.items()}
    return sum(parts.values()), ", ".join(f"{kind} {share:.1f} %" for kind, share in sorted(parts.items()))


async def _blocked(stub: Stub, session: str) -> list[str]:
    """Tasks that wait for a result that nobody has announced; the keys of their results."""
    request = submitter_service_pb2.CreateSmallTaskRequest(session_id=session)
    keys = [f"{session}/{number}" for number in range(WAITERS)]
    for key in keys:
        request.task_requests.add(id=key, expected_output_keys=[key], data_dependencies=[f"{session}/never"])
    await stub.CreateSmallTasks(request)
    return keys


async def _wait(stub: Stub, session: str, key: str) -> None:
    await stub.WaitForAvailability(objects_pb2.ResultRequest(session=session, key=key))
