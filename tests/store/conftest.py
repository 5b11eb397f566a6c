"""A database of its own for each test, which must end with every invariant unbroken."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.store.reading.sanity import broken_invariants
from store.world import World


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as database:
        yield database
        assert await broken_invariants(database) == []


@pytest_asyncio.fixture
async def world(database: Database) -> World:
    """With a session ``s`` in it."""
    world = World(database)
    await world.session()
    return world


@pytest.fixture(params=["directory", "url"])
def objects(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> ObjectStore:
    """In a folder ``objects``, as a directory and as the URL of one."""
    place = tmp_path / "objects"
    place.mkdir()
    return ObjectStore(database, str(place) if request.param == "directory" else place.as_uri())
