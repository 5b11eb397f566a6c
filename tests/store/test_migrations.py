"""Migrations: once each, whole or not at all, and never backwards."""

import asyncio

import asyncpg
import pytest

from ripieno.domain.errors import InvalidRequestError
from ripieno.store.database import migrate
from ripieno.store.database.database import Database
from ripieno.store.database.migrate import Migration, load_migrations


async def fetch(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_replicas_that_start_at_once_migrate_once(database_url: str) -> None:
    async def start() -> None:
        async with Database.open(database_url, pool_size=2) as database:
            await database.fetch("select 1 from sessions")

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(start())
    versions = await fetch(database_url, "select version from ripieno.migrations order by 1")
    assert versions == [(migration.version,) for migration in load_migrations()]
    assert await fetch(database_url, "select count(*) from ripieno.cluster") == [(1,)]


async def test_a_second_start_changes_nothing(database_url: str) -> None:
    async with Database.open(database_url):
        pass
    before = await fetch(database_url, "select version, applied_at from ripieno.migrations")
    async with Database.open(database_url):
        pass
    assert await fetch(database_url, "select version, applied_at from ripieno.migrations") == before


async def test_a_newer_schema_is_refused(database_url: str) -> None:
    async with Database.open(database_url) as database:
        await database.fetch("insert into migrations (version, name) values (9999, 'of the future')")
    with pytest.raises(InvalidRequestError, match="version 9999, newer than this release knows"):
        async with Database.open(database_url):
            pass


async def test_a_failing_migration_leaves_nothing_of_itself(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = load_migrations()
    broken = Migration(known[-1].version + 1, "broken", "create table half_made (n integer); select 1 / 0")
    monkeypatch.setattr(migrate, "load_migrations", lambda: [*known, broken])
    with pytest.raises(InvalidRequestError, match="division by zero"):
        async with Database.open(database_url):
            pass
    versions = await fetch(database_url, "select version from ripieno.migrations order by 1")
    assert versions == [(migration.version,) for migration in known]
    assert await fetch(database_url, "select to_regclass('ripieno.half_made')") == [(None,)]


async def test_schemas_do_not_meet(database_url: str) -> None:
    async with Database.open(database_url, schema="one") as one, Database.open(database_url, schema="two") as two:
        await one.fetch("insert into staged_objects (name) values ('x')")
        assert await two.fetch("select name from staged_objects") == []
