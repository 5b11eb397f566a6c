"""A worker of the scenarios, and agents of it over both lanes."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from unit.worker.agents import Agent, agent_of
from unit.worker.processes import WorkerProcess, worker_process


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with worker_process("scenarios:handle") as process:
        yield process


@pytest_asyncio.fixture(params=["call", "batch"])
async def agent(worker: WorkerProcess, request: pytest.FixtureRequest) -> AsyncIterator[Agent]:
    async with agent_of(worker.address, request.param) as agent:
        yield agent
