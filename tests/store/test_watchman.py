"""A database that says nothing any more: noticed within ten seconds, and not confused with one that works."""

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
import pytest_asyncio

from ripieno.domain.errors import OutcomeUnknownError, UnavailableError
from ripieno.store.database.connections import Connection
from ripieno.store.database.database import Database
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


async def test_a_server_that_lets_nobody_in_is_not_silent(
    postgres: EmbeddedPostgres, through: tuple[Proxy, Database], database_url: str
) -> None:
    """Sessions that are open already go on working when the server lets nobody new in."""
    _, database = through
    name = database_url.partition("?")[0].rpartition("/")[2]
    admin = await asyncpg.connect(postgres.url)
    try:
        working = asyncio.create_task(database.fetch("select 1 as one from pg_sleep(8)"))
        await asyncio.sleep(1)
        await admin.execute(f"alter database {name} allow_connections false")
        assert [row["one"] for row in await working] == [1]
    finally:
        await admin.execute(f"alter database {name} allow_connections true")
        await admin.close()


async def test_who_asks_about_a_closed_connection_is_told_at_once(database_url: str) -> None:
    async with Database.open(database_url) as database:
        connection = await database.connect("test")
        connection.terminate()
        told: list[str] = []
        connection.on_closed(lambda: told.append("closed"))
        assert told == ["closed"]
