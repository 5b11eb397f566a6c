"""A database of its own for each test, which must end with every invariant unbroken."""

from collections.abc import AsyncIterator

import pytest_asyncio

from ripieno.store.database import Database
from ripieno.store.sanity import broken_invariants
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
