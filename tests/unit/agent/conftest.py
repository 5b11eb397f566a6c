"""A replica, and workers inside the test's own process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from unit.agent.replica import Replica
from unit.agent.toy_worker import ToyWorker, start


@pytest_asyncio.fixture
async def replica() -> AsyncIterator[Replica]:
    replica = Replica()
    await replica.start()
    yield replica
    await replica.stop()


Serve = Callable[..., Awaitable[tuple[ToyWorker, str]]]


@pytest_asyncio.fixture
async def serve(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serve]:
    """Start a toy worker: ``worker, address = await serve(batch=True)``."""
    servers: list[grpc.aio.Server] = []
    folder = Path(tmp_path_factory.mktemp("w"))

    async def begin(*, batch: bool) -> tuple[ToyWorker, str]:
        worker = ToyWorker()
        address = f"unix:{folder}/{len(servers)}.sock"
        servers.append(await start(worker, address, batch=batch))
        return worker, address

    yield begin
    for server in servers:
        await server.stop(0)
