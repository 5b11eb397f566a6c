"""Sessions on a database that somebody else has set up: few of them, odd settings, another encoding."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from ripieno.domain.errors import InvalidRequestError, UnavailableError
from ripieno.store.database.connections import SETTINGS
from ripieno.store.database.database import Database
from ripieno.store.embedded import EmbeddedPostgres
from store.world import World, task

ROLE = "hosted"


@pytest_asyncio.fixture
async def admin(postgres: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection, and a role and a database for the test, which are removed again."""
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"create role {ROLE} login")
    await connection.execute(f"create database {ROLE} owner {ROLE} template template0")
    yield connection
    await connection.execute(f"drop database {ROLE} with (force)")
    await connection.execute(f"drop role {ROLE}")
    await connection.close()


@pytest.fixture
def url(postgres: EmbeddedPostgres) -> str:
    return postgres.url_of(ROLE).replace("postgres@", f"{ROLE}@", 1)


ODD = [
    "default_transaction_isolation = 'serializable'",
    "statement_timeout = '20ms'",
    "lock_timeout = '1ms'",
    "idle_session_timeout = '100ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "transaction_timeout = '20ms'",
    "search_path = 'elsewhere'",
    "standard_conforming_strings = off",
    "bytea_output = 'escape'",
    "array_nulls = off",
    "timezone = 'Asia/Kathmandu'",
    "datestyle = 'German'",
    "intervalstyle = 'sql_standard'",
    "client_encoding = 'latin1'",
    "enable_indexscan = off",
    "enable_nestloop = off",
    "synchronous_commit = off",
]


@pytest.mark.parametrize("setting", ODD)
async def test_settings_of_the_role_change_nothing(admin: asyncpg.Connection, url: str, setting: str) -> None:
    await admin.execute(f"alter role {ROLE} set {setting}")
    async with Database.open(url) as database:
        world = World(database)
        await world.session()
        await asyncio.sleep(0.15)  # idle for longer than any of them allows
        await world.submit(task("Zürich \\ 'x' \"y\"", "NULL", payload=b"\\000'\0"))
        [claimed] = (await world.claim()).values()
        assert claimed.payload == b"\\000'\0"
        assert claimed.expected_output_keys == ["NULL"]
        [[durable]] = await database.fetch("show synchronous_commit")
        assert durable == "on"
        name = setting.partition(" ")[0]
        if name in SETTINGS:
            assert await database.fetch(f"select from pg_settings where name = '{name}' and source = 'session'")


@pytest.mark.parametrize("most", [3, 5])
async def test_few_sessions_are_shared(admin: asyncpg.Connection, url: str, most: int) -> None:
    await admin.execute(f"alter role {ROLE} connection limit {most}")
    async with Database.open(url, pool_size=10) as database:
        own = database.own_session()
        async with own.acquire() as session:
            await session.execute("select 1")
            await asyncio.gather(*(database.fetch("select pg_sleep(0.01)") for _ in range(30)))
            await database.fetch_relaxed("select 1")


async def test_no_session_at_all_is_unavailable(admin: asyncpg.Connection, url: str) -> None:
    await admin.execute(f"alter role {ROLE} connection limit 0")
    with pytest.raises(UnavailableError, match="no connection left"):
        async with Database.open(url):
            pass


async def test_a_role_that_may_only_read_is_refused_with_the_way_out(admin: asyncpg.Connection, url: str) -> None:
    await admin.execute(f"alter role {ROLE} set default_transaction_read_only = on")
    with pytest.raises(InvalidRequestError, match="reset default_transaction_read_only"):
        async with Database.open(url):
            pass


async def test_a_database_that_is_read_only_just_now_is_unavailable(admin: asyncpg.Connection, url: str) -> None:
    await admin.execute(f"alter database {ROLE} set default_transaction_read_only = on")
    with pytest.raises(UnavailableError, match="takes no writes"):
        async with Database.open(url):
            pass


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_another_encoding_is_refused_with_the_way_out(admin: asyncpg.Connection, url: str, encoding: str) -> None:
    await admin.execute(f"drop database {ROLE}")
    await admin.execute(
        f"create database {ROLE} owner {ROLE} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0"
    )
    with pytest.raises(InvalidRequestError, match=f"encoding {encoding}.*UTF8"):
        async with Database.open(url):
            pass


async def test_a_fail_over_to_a_standby_is_left_as_soon_as_there_is_a_primary(
    admin: asyncpg.Connection, url: str
) -> None:
    async with Database.open(url) as database:
        await admin.execute(f"alter database {ROLE} set default_transaction_read_only = on")
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", ROLE)
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await database.fetch("select 1")
        await admin.execute(f"alter database {ROLE} set default_transaction_read_only = off")
        assert await database.fetch("select 1")
