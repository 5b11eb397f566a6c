"""A fake cluster and a client of it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from ripieno.client import AsyncClient
from unit.client.cluster import FakeCluster


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """Serves results pushed."""
    cluster = FakeCluster()
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest_asyncio.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(cluster.address, patience=5) as client:
        yield client
