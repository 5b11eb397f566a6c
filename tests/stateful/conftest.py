"""Several replicas on one database, which must get along without a single refused crossing.

Once each goes the plain way wherever it can; once that way is closed to every second call, so
that transactions of both ways cross.
"""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import cast

import pytest
import pytest_asyncio

from ripieno.store.reading.sanity import broken_invariants
from stateful.crossing import Replicas
from store.ways import TwoWays
from store.world import World

REPLICAS = 4


@pytest.fixture(params=[12, pytest.param(150, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def rounds(request: pytest.FixtureRequest) -> int:
    """How often each crossing is tried."""
    number: int = request.param
    return number


@pytest_asyncio.fixture(params=[0, 2], ids=["plain", "both ways"])
async def replicas(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    """Replicas with connections of their own and a session ``s``; the seed is printed."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    async with AsyncExitStack() as stack:
        databases = [
            await stack.enter_async_context(TwoWays.open(database_url, pool_size=6, name=f"replica {n}"))
            for n in range(REPLICAS)
        ]
        for database in databases:
            cast(TwoWays, database).careful_every = request.param
        worlds = [World(database) for database in databases]
        await worlds[0].session()
        yield Replicas(worlds, random.Random(seed))
        assert await broken_invariants(databases[0]) == []
        assert [database.crossings for database in databases] == [0] * REPLICAS
        assert sum(cast(TwoWays, database).plain for database in databases) > 0
