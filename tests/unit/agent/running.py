"""An agent that runs inside a test, with its replica."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from ripieno.agent.main import run_agent
from ripieno.config import AgentSettings
from unit.agent.replica import Replica, Task

TOY = f"{sys.executable} {Path(__file__).with_name('toy_worker.py')}"
SETTINGS = AgentSettings(control=(), name="agent", cancel_grace_s=0.3, drain_s=1.0)


class RunningAgent:
    def __init__(self, task: asyncio.Task[None], stop: asyncio.Event) -> None:
        self.task = task
        self.stop_event = stop

    async def stop(self) -> None:
        self.stop_event.set()
        async with asyncio.timeout(15):
            await self.task


@asynccontextmanager
async def agent(replica: Replica, settings: AgentSettings = SETTINGS, **changes: object) -> AsyncIterator[RunningAgent]:
    """An agent that was welcomed; stopped at the end."""
    ready, stop = asyncio.Event(), asyncio.Event()
    settings = replace(settings, **{"control": (replica.address,), **changes})  # type: ignore[arg-type]
    task = asyncio.create_task(run_agent(settings, stop=stop, on_ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    async with asyncio.timeout(10):
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    running = RunningAgent(task, stop)
    try:
        yield running
    finally:
        if not task.done():
            await running.stop()


async def teach(replica: Replica, run_s: float) -> None:
    """Let an agent with one worker see a run time for the first time, and wait for the credit that it leads to."""
    replica.submit(Task("teacher", payload=b"nap:%g" % run_s))
    await replica.outcome_of("teacher")
    await replica.until(lambda: replica.credit > 1)
