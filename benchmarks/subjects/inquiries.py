"""P12: questions about a session of a million finished tasks."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import uvloop

from benchmarks.bare.client import Stub, submit, submitter
from benchmarks.clusters import agent, control, postgres, python_worker
from benchmarks.figures import Figure, at_most, of_rounds
from benchmarks.filling import Filling, fill
from benchmarks.scale import Scale
from ripieno.wire.protos.armonik_v2.submitter_service_pb2 import TaskFilter, WaitRequest

_SESSION = "filled"
_NAMED = 1_000
#: The first one is left out: statements are prepared.
_TIMES = 11


def measure(scale: Scale) -> list[Figure]:
    """The time of each call, the middle of ten; of the whole list, once."""
    tasks = scale.of(1_000_000)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True)))
        database = stack.enter_context(postgres(scratch / "postgres"))
        asyncio.run(fill(database, Filling(_SESSION, tasks, finished=True)))
        _, address = stack.enter_context(control(database, scratch / "objects"))
        stack.enter_context(agent(address, python_worker("no_op")))
        return uvloop.run(_ask(address, tasks))


async def _ask(address: str, tasks: int) -> list[Figure]:
    whole = TaskFilter(session=TaskFilter.IdsRequest(ids=[_SESSION]))
    named = TaskFilter(task=TaskFilter.IdsRequest(ids=[f"{_SESSION}/{number}" for number in range(1, _NAMED + 1)]))
    async with submitter(address) as stub:
        count_ms = await _times(lambda: stub.CountTasks(whole))
        named_ms = await _times(lambda: stub.ListTasks(named))
        wait_ms = await _times(lambda: _last_step(stub, whole))
        began = time.perf_counter()
        listed = len((await stub.ListTasks(whole)).task_ids)
        whole_ms = (time.perf_counter() - began) * 1e3
        assert listed >= tasks, listed
    how = f"session of {tasks:,} finished tasks, 1 client"
    last = "from the submission of one more task to the reply of a WaitForCompletion that waits for it, the task's run included"
    return [
        of_rounds("CountTasks", count_ms, "ms", how, at_most(50)),
        of_rounds("ListTasks, 1,000 named tasks", named_ms, "ms", how, at_most(50)),
        of_rounds("WaitForCompletion, last step", wait_ms, "ms", f"{how}, {last}", at_most(50)),
        Figure(
            "ListTasks, the whole session",
            whole_ms,
            "ms",
            f"{how}, {listed:,} ids in one reply: this protocol has no pages",
        ),
    ]


async def _times(call: Callable[[], Awaitable[object]]) -> list[float]:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1e3)
    return times[1:]


async def _last_step(stub: Stub, whole: TaskFilter) -> None:
    await submit(stub, _SESSION, 1)
    await stub.WaitForCompletion(WaitRequest(filter=whole))
