"""A database that says nothing any more: noticed within ten seconds, and not confused with one that works."""

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from ripieno.domain.errors import OutcomeUnknownError, UnavailableError
from ripieno.store.connections import Connection
from ripieno.store.database import Database
from ripieno.store.embedded import EmbeddedPostgres
from store.silence import Proxy, silenced

#: What is promised, and what a busy machine may add.
WITHIN_S = 10.0 + 5.0


@pytest_asyncio.fixture
async def through(database_url: str) -> AsyncIterator[tuple[Proxy, Database]]:
    with tempfile.TemporaryDirectory(prefix="px-", dir="/tmp") as directory:
        async with (
            silenced(database_url, Path(directory)) as (proxy, url),
            Database.open(url, pool_size=3) as database,
        ):
            yield proxy, database


async def test_calls_over_silent_connections_end_and_new_ones_are_made(through: tuple[Proxy, Database]) -> None:
    proxy, database = through
    await asyncio.gather(*(database.fetch("select pg_sleep(0.1)") for _ in range(3)))
    proxy.fall_silent()
    began = time.monotonic()
    said = await asyncio.gather(*(database.fetch("select 1") for _ in range(9)), return_exceptions=True)
    assert time.monotonic() - began < WITHIN_S
    assert sum(isinstance(each, UnavailableError) for each in said) >= 3
    assert all(isinstance(each, UnavailableError | list) for each in said)
    assert (await database.fetchrow("select 2 as two")) is not None


async def test_a_commit_whose_answer_never_comes_is_unknown(through: tuple[Proxy, Database]) -> None:
    proxy, database = through

    async def body(connection: Connection) -> None:
        await connection.execute("insert into staged_objects (name) values ('x')")
        proxy.fall_silent()

    with pytest.raises(OutcomeUnknownError):
        await database.transaction(body)


async def test_a_long_statement_is_left_alone(through: tuple[Proxy, Database]) -> None:
    proxy, database = through
    assert await database.fetch("select 1 as one from pg_sleep(8)")
    assert proxy.connections >= 3  # somebody asked


def send(number: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    """Signal them all; the process of a session that was closed just now may end meanwhile."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


async def test_a_server_that_is_stopped_ends_calls_and_is_used_again_when_it_goes_on(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    url = await server.start()
    try:
        async with Database.open(url) as database:
            assert server.pid is not None
            processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
            send(signal.SIGSTOP, processes)
            try:
                began = time.monotonic()
                with pytest.raises(UnavailableError):
                    await database.fetch("select 1")
                assert time.monotonic() - began < WITHIN_S
            finally:
                send(signal.SIGCONT, processes)
            async with asyncio.timeout(WITHIN_S):
                while True:
                    try:
                        await database.fetch("select 1")
                    except UnavailableError:
                        continue
                    break
    finally:
        await server.stop()
