"""P2: no-op tasks end to end, client and workers made of generated stubs: the original protocol alone."""

import sys
import time

import uvloop

from benchmarks.bare.client import (
    CALLS_IN_FLIGHT,
    TASKS_A_CALL,
    Stub,
    Way,
    create_session,
    submit,
    submitter,
    wait_and_fetch,
    wait_for_all_and_fetch,
)
from benchmarks.clusters import up
from benchmarks.figures import Figure, at_least, of_rounds
from benchmarks.scale import Scale
from benchmarks.tasks import RESULT


def measure(scale: Scale) -> list[Figure]:
    """The rate with one ``Process`` call a task, and with one or two calls a result."""
    tasks = scale.of(10_000)
    with up(f"{sys.executable} -m benchmarks.bare.worker {{address}}") as cluster:
        for_all, for_each = uvloop.run(_rates(cluster.address, tasks, scale.rounds))
    how = (
        f"{tasks:,} tasks, 2 workers, 1 client, {TASKS_A_CALL:,} a call, {{}} for each result, "
        f"{CALLS_IN_FLIGHT} at a time, fsync on"
    )
    once, twice = (
        how.format("WaitForCompletion, then TryGetResultStream"),
        how.format("WaitForAvailability and TryGetResultStream"),
    )
    return [
        of_rounds("no-op end to end, bare stubs", for_all, "tasks/s", once, at_least(1_500)),
        of_rounds("the same, each waited for", for_each, "tasks/s", twice),
    ]


async def _rates(address: str, tasks: int, rounds: int) -> list[list[float]]:
    async with submitter(address) as stub:
        await _rate(stub, 100, wait_and_fetch)
        return [
            [await _rate(stub, tasks, way) for _ in range(rounds)] for way in (wait_for_all_and_fetch, wait_and_fetch)
        ]


async def _rate(stub: Stub, tasks: int, way: Way) -> float:
    session = await create_session(stub)
    began = time.perf_counter()
    got = await way(stub, session, await submit(stub, session, tasks))
    rate = tasks / (time.perf_counter() - began)
    assert got == len(RESULT) * tasks, got
    return rate
