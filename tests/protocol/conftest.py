"""Clusters that the tests of this package share, and the check that no agent broke the protocol.

Every test and fixture here runs in the one event loop of the session: the servers of the
bare workers live in it.
"""

from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.bare_client import Client
from protocol.bare_worker import Workers, bare_workers
from protocol.cluster import Process, cluster
from session_loop import use_session_loop


@dataclass(frozen=True)
class Stage:
    """A running cluster, a client of it and its bare workers.

    Attributes:
        client: Connected to its control plane.
        workers: All the workers that it has; each is one slot.
        process: ``ripieno up``.
    """

    client: Client
    workers: Workers
    process: Process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    use_session_loop(items, Path(__file__).parent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        stages = {id(stage): stage for stage in item.funcargs.values() if isinstance(stage, Stage)}
        report.sections += [("the cluster", stage.process.story()) for stage in stages.values()]
    return report


async def _stage(size: int) -> AsyncIterator[Stage]:
    async with (
        bare_workers(size) as workers,
        cluster(attach=workers.addresses) as process,
        Client(process.address) as client,
    ):
        yield Stage(client, workers, process)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _shared_stage() -> AsyncIterator[Stage]:
    async for stage in _stage(4):
        yield stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _solo_stage() -> AsyncIterator[Stage]:
    async for stage in _stage(1):
        yield stage


@pytest_asyncio.fixture(loop_scope="session")
async def stage(_shared_stage: Stage) -> AsyncIterator[Stage]:
    """A cluster with four workers, shared by all tests: use unique names, leave nothing running."""
    async for stage in _watched(_shared_stage):
        yield stage


@pytest_asyncio.fixture(loop_scope="session")
async def solo(_solo_stage: Stage) -> AsyncIterator[Stage]:
    """A cluster with a single worker, shared likewise, for tests that need to know which one runs."""
    async for stage in _watched(_solo_stage):
        yield stage


@pytest.fixture
def client(stage: Stage) -> Client:
    """A client of the shared cluster."""
    return stage.client


@pytest.fixture
def workers(stage: Stage) -> Workers:
    """The four workers of the shared cluster."""
    return stage.workers


async def _watched(stage: Stage) -> AsyncIterator[Stage]:
    stage.workers.forget()
    services = stage.process.services()
    try:
        yield stage
    finally:
        # A test that failed half-way may hold workers that the next one needs.
        running = [attempt for attempt in stage.workers.attempts if attempt.running]
        for session_id in {attempt.session_id for attempt in running}:
            await stage.client.cancel_session(session_id)
        for attempt in running:
            await stage.workers.ended(attempt)
    assert not stage.workers.breaches, stage.workers.breaches
    assert stage.process.services() == services, "a process of the cluster died during the test"
