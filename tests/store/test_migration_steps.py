"""A migration in steps: nobody waits for it for long, and one that was interrupted goes on where it was."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from ripieno.domain.errors import InvariantError
from ripieno.store.database import migrate
from ripieno.store.database.database import Database
from ripieno.store.database.migrate import Migration, load_migrations

ROWS = 60_000

#: Expand, fill, index, contract, on a table that others use.
STEPS = """
-- step: together
alter table states add column weight integer;

-- step: repeat
update states set weight = 1 where task_no in (select task_no from states where weight is null limit 5000)

-- step: alone
create index concurrently states_by_weight on states (weight)

-- step: together
alter table states add constraint weighed check (weight is not null) not valid;
"""

FILL = f"""
insert into states (task_no, session_no, unmet, max_retries, priority, partition)
select n, 1, 0, 0, 50, '' from generate_series(1, {ROWS}) as n
"""


@pytest_asyncio.fixture
async def old(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of the release before, with rows in the table."""
    async with Database.open(database_url):
        pass
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ripieno"})
    await connection.execute(FILL)
    yield connection
    await connection.close()


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> int:
    """Of the migration that comes next."""
    known = load_migrations()
    version = known[-1].version + 1
    monkeypatch.setattr(migrate, "load_migrations", lambda: [*known, Migration(version, "weights", STEPS)])
    return version


async def upgraded(url: str) -> None:
    async with Database.open(url):
        pass


async def until(connection: asyncpg.Connection, query: str) -> None:
    """Until a query says yes."""
    async with asyncio.timeout(30):
        while True:
            if await connection.fetchval(query):
                return
            await asyncio.sleep(0.001)


async def test_the_release_before_goes_on_meanwhile(old: asyncpg.Connection, database_url: str, version: int) -> None:
    upgrade = asyncio.create_task(upgraded(database_url))
    longest_s = 0.0
    while not upgrade.done():
        began = time.monotonic()
        await old.fetch("select 1 from states where partition = '' and status = 1 and unmet = 0 limit 1 for update")
        longest_s = max(longest_s, time.monotonic() - began)
        await asyncio.sleep(0.005)
    await upgrade
    assert longest_s < 1.0
    assert await old.fetchval("select count(*) from states where weight = 1") == ROWS
    assert await old.fetchval("select max(version) from migrations") == version


async def test_a_step_waits_for_a_lock_for_a_moment_only(
    old: asyncpg.Connection, database_url: str, version: int
) -> None:
    """While it waits, others wait behind it: they come through as long as somebody holds the table open."""
    transaction = old.transaction()
    await transaction.start()
    await old.execute("lock table states in row exclusive mode")
    upgrade = asyncio.create_task(upgraded(database_url))
    other = await asyncpg.connect(database_url)
    for _ in range(30):
        async with asyncio.timeout(2):
            await other.fetch("select 1 from ripieno.states limit 1")
        await asyncio.sleep(0.05)
    assert not upgrade.done()
    await transaction.commit()
    await upgrade
    await other.close()


async def test_replicas_that_start_at_once_do_not_stop_each_other(
    old: asyncpg.Connection, database_url: str, version: int
) -> None:
    """An index that is built concurrently waits for the snapshots of all others, of those that wait for the migration too."""
    crossed = "select deadlocks from pg_stat_database where datname = current_database()"
    before = await old.fetchval(crossed)
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(upgraded(database_url))
    assert await old.fetchval("select indisvalid from pg_index where indexrelid = 'states_by_weight'::regclass")
    assert await old.fetchval("select count(*) from migrations where version = $1", version) == 1
    assert await old.fetchval(crossed) == before


@pytest.mark.parametrize("after", ["weight is not null", "weight is null"])
async def test_what_was_interrupted_goes_on_where_it_was(
    old: asyncpg.Connection, database_url: str, version: int, after: str
) -> None:
    upgrade = asyncio.create_task(upgraded(database_url))
    await until(old, "select count(*) from pg_attribute where attname = 'weight'")
    await until(old, f"select true from states where {after} limit 1")
    await old.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()"
    )
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a session says that was ended
        await upgrade
    await upgraded(database_url)
    assert await old.fetchval("select count(*) from states where weight = 1") == ROWS
    assert await old.fetchval("select indisvalid from pg_index where indexrelid = 'states_by_weight'::regclass")
    assert await old.fetchval("select count(*) from migration_steps where version = $1", version) == 4


async def test_an_index_that_was_left_half_built_is_built_anew(
    old: asyncpg.Connection, database_url: str, version: int
) -> None:
    """As a crash during ``create index concurrently`` leaves it: under its name, and of no use."""
    reader = await asyncpg.connect(database_url)
    transaction = reader.transaction(isolation="repeatable_read")
    await transaction.start()
    await reader.fetch("select 1")  # an old snapshot, for which the index has to wait
    upgrade = asyncio.create_task(upgraded(database_url))
    await until(old, "select count(*) from pg_index where not indisvalid")
    await old.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where query like '%create index concurrently%' and pid <> pg_backend_pid()"
    )
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a session says that was ended
        await upgrade
    await transaction.rollback()
    await reader.close()
    assert await old.fetchval("select count(*) from pg_index where not indisvalid") == 1
    await upgraded(database_url)
    assert await old.fetchval("select indisvalid from pg_index where indexrelid = 'states_by_weight'::regclass")


def test_a_step_of_an_unknown_kind_is_a_bug() -> None:
    with pytest.raises(InvariantError, match="unknown kinds: \\['quickly'\\]"):
        Migration(7, "hasty", "-- step: quickly\nselect 1").steps()
