"""One replica over a real database, in the test's own event loop, spoken to over gRPC."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from control.replica import Served, serving
from store.world import World


@pytest_asyncio.fixture
async def served(database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    """A replica with a session ``s``."""
    async with serving(database_url, tmp_path / "objects") as served:
        await served.world.session()
        yield served


@pytest_asyncio.fixture
async def limited(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    """The same with the limits ``LIMITS`` of the test's module."""
    async with serving(database_url, tmp_path / "objects", limits=request.module.LIMITS) as served:
        await served.world.session()
        yield served


@pytest_asyncio.fixture
async def channel(served: Served) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to the replica that only this test uses."""
    async with served.connect() as channel:
        yield channel


@pytest_asyncio.fixture
async def world(served: Served) -> World:
    """The replica's database."""
    return served.world
