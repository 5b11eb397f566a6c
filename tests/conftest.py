"""Fixtures that all levels of tests share.

A PostgreSQL server is started once a test run (once a worker of pytest-xdist), in a
directory of its own; each test that asks for ``database_url`` gets a fresh database in it.
"""

import itertools
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from ripieno.store.embedded import EmbeddedPostgres

_numbers = itertools.count(1)

# Whoever runs the tests in the background of a shell ignores Ctrl-C, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy makes no test wrong.
settings.register_profile("ripieno", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ripieno")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A running server with the product's own settings."""
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("postgres")) / "data")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of an empty database that only this test uses."""
    name = f"test_{next(_numbers)}"
    await _execute(postgres, f"create database {name} template template0")
    yield postgres.url_of(name)
    await _execute(postgres, f"drop database {name} with (force)")


async def _execute(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
