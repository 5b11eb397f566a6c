"""P2: no-op tasks end to end, client and workers made of generated stubs: the original protocol alone."""

import sys
import time

import uvloop

from benchmarks.bare.client import CALLS_IN_FLIGHT, TASKS_A_CALL, create_session, submit, submitter, wait_and_fetch
from benchmarks.clusters import up
from benchmarks.figures import Figure, at_least, of_rounds
from benchmarks.scale import Scale
from benchmarks.tasks import RESULT


def measure(scale: Scale) -> list[Figure]:
    """The rate with one ``Process`` call a task and two calls a result."""
    tasks = scale.of(10_000)
    with up(f"{sys.executable} -m benchmarks.bare.worker {{address}}") as cluster:
        rates = uvloop.run(_rates(cluster.address, tasks, scale.rounds))
    how = (
        f"{tasks:,} tasks, 2 workers, 1 client, {TASKS_A_CALL:,} a call, WaitForAvailability and TryGetResultStream "
        f"for each result, {CALLS_IN_FLIGHT} at a time, fsync on"
    )
    return [of_rounds("no-op end to end, bare stubs", rates, "tasks/s", how, at_least(1_500))]


async def _rates(address: str, tasks: int, rounds: int) -> list[float]:
    async with submitter(address) as stub:
        session = await create_session(stub)
        rates = []
        for count in (100, *([tasks] * rounds)):
            began = time.perf_counter()
            got = await wait_and_fetch(stub, session, await submit(stub, session, count))
            rates.append(count / (time.perf_counter() - began))
            assert got == len(RESULT) * count, got
    return rates[1:]
