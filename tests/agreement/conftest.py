"""The cluster that all tests of this package share; they run in the one event loop of the session."""

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from agreement.stage import LANES, Stage, running_stages
from session_loop import use_session_loop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    use_session_loop(items, Path(__file__).parent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        stage = next((value for value in item.funcargs.values() if isinstance(value, Stage)), None)
        if stage is not None:
            report.sections.append(("the cluster", stage.process.story()))
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _stages() -> AsyncIterator[list[Stage]]:
    async with running_stages() as stages:
        yield stages


@pytest_asyncio.fixture(loop_scope="session")
async def stages(_stages: list[Stage]) -> AsyncIterator[list[Stage]]:
    """All lanes of a cluster that all tests share: use unique names."""
    yield _stages
    for stage in _stages:
        await stage.clear()


@pytest.fixture(params=range(len(LANES)), ids=[lane.name for lane in LANES])
def stage(request: pytest.FixtureRequest, stages: list[Stage]) -> Stage:
    """Each lane in turn."""
    place: int = request.param
    return stages[place]


@pytest.fixture
def one_stage(stages: list[Stage]) -> Stage:
    """A lane, for tests that tell nothing about lanes."""
    return stages[0]
