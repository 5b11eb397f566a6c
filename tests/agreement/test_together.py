"""Several tasks at a time in one worker, where its author says so: they meet, and the cluster counts with them."""

import asyncio
import shlex
import sys
from datetime import timedelta

from agreement.scripts import task
from agreement.stage import Stage, unique
from protocol.cluster import running
from ripieno.client import TaskStatus

TOGETHER = 8


async def test_a_worker_runs_several_tasks_at_a_time(one_stage: Stage) -> None:
    """All are held by one gate in a worker of one slot; a time limit ends one of them, and no other."""
    worker = [sys.executable, "-m", "ripieno", "worker", "agreement.handlers:handle_async"]
    command = shlex.join([*worker, "--concurrency", str(TOGETHER)])
    partition = unique("together")
    flags = ["--control", one_stage.process.address, "--partition", partition, "--slots", "1"]
    async with running("agent", *flags, "--name", partition, "--worker", command):
        session = await one_stage.session(partition=partition, max_duration=timedelta(seconds=60))
        gates = [one_stage.gate() for _ in range(TOGETHER)]
        handles = [
            await session.submit(task(unique("held"), ["hold", str(gate.path)], ["give", f"{place}"]))
            for place, gate in enumerate(gates)
        ]
        async with asyncio.timeout(60):
            for gate in gates:
                await gate.begun()
        async with asyncio.timeout(60):
            while await _slots(one_stage, partition) != (TOGETHER, TOGETHER):  # noqa: ASYNC110 - told soon
                await asyncio.sleep(0.02)
        await handles[0].cancel()
        for gate in gates[1:]:
            gate.open()
        for place, handle in enumerate(handles[1:], 1):
            assert await handle.result(timeout=60) == f"{place}".encode()
        assert await session.wait(timeout=60) == {TaskStatus.COMPLETED: TOGETHER - 1, TaskStatus.CANCELLED: 1}
        printing = await session.submit(task(unique("prints"), ["run", "print('by whom?')"]))
        assert await printing.result(timeout=60) == b"ran"
        assert (await printing.output()).stdout == b"", "nobody could tell whose it is"


async def _slots(stage: Stage, name: str) -> tuple[int, int]:
    """How many slots an agent has, and how many attempts it holds."""
    [agent] = [each async for each in stage.client.list_agents(f'name="{name}"')]
    return agent.slots, agent.held
