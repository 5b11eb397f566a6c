"""What was kept of a database is not used with another one: a fail-over that lost commits, a restore, a stranger."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ripieno.domain.errors import NotFoundError, UnavailableError
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.faults import StaleError
from ripieno.store.embedded import EmbeddedPostgres
from ripieno.store.submitting.submission import submit
from store.world import World, done, task


class Failover:
    """A server whose latest commits can be lost."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.server = EmbeddedPostgres(directory / "data")

    async def remember(self) -> None:
        """What has been committed by now is what will be left."""
        await self.server.stop()
        shutil.copytree(self._directory / "data", self._directory / "standby")
        await self.server.start()

    async def happen(self) -> None:
        """Lose what was committed since."""
        await self.server.stop()
        owner = (self._directory / "data").stat()
        shutil.rmtree(self._directory / "data")
        (self._directory / "standby").rename(self._directory / "data")
        for path in [self._directory / "data", *(self._directory / "data").rglob("*")]:
            shutil.chown(path, owner.st_uid, owner.st_gid)
        await self.server.start()


@pytest_asyncio.fixture
async def failover(tmp_path: Path) -> AsyncIterator[Failover]:
    failover = Failover(tmp_path)
    await failover.server.start()
    async with Database.open(failover.server.url):
        pass
    yield failover
    await failover.server.stop()


async def reached(database: Database) -> None:
    """Ask until the database is there again."""
    async with asyncio.timeout(20):
        while True:
            try:
                await database.fetch("select 1")
            except UnavailableError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_session_that_was_lost_is_not_another_one(failover: Failover) -> None:
    await failover.remember()
    async with Database.open(failover.server.url) as database:
        world = World(database)
        await world.session("alice")
        call = await world.call([task("a", "k")], "alice")
        await failover.happen()
        async with Database.open(failover.server.url) as other:
            assert await World(other).session("bob") == call.session.session_no
        # Whoever has resolved the name before is refused, and whoever asks now is told the truth.
        with pytest.raises(UnavailableError):
            await submit(database, [call])
        with pytest.raises(StaleError):
            await submit(database, [call])
        await reached(database)
        with pytest.raises(NotFoundError):
            await world.sessions.find("alice")
        assert await world.rows("select count(*) from tasks") == [(0,)]


async def test_blocks_of_numbers_are_taken_anew(failover: Failover) -> None:
    async with Database.open(failover.server.url) as database:
        world = World(database)
        await world.session()
    await failover.remember()
    async with Database.open(failover.server.url) as database:
        world = World(database)
        [first] = await world.begin(task("a", "x"))
        await world.commit(done(first, {"x": b"1"}))
        await failover.happen()
        async with Database.open(failover.server.url) as other:
            elsewhere = World(other)
            [again] = await elsewhere.begin(task("b", "y"))
            await elsewhere.commit(done(again, {"y": b"2"}))  # with the number that was lost
        await reached(database)
        [more] = await world.begin(task("c", "z"))
        await world.commit(done(more, {"z": b"3"}))
        assert await world.rows("select count(distinct blob_no) from results where blob_no is not null") == [(2,)]


async def test_who_keeps_something_is_told_before_anything_is_asked(failover: Failover) -> None:
    async with Database.open(failover.server.url) as database:
        told: list[int] = []
        database.on_new_incarnation.append(lambda: told.append(database.incarnation))
        before = database.incarnation
        await failover.server.stop()
        await failover.server.start()
        seen: list[int] = []

        async def body(connection: Connection) -> None:
            seen.append(connection.incarnation)

        with pytest.raises(UnavailableError):
            await database.transaction(body)
        await database.transaction(body)
        assert told == [before + 1]
        assert seen == [before + 1]


@pytest.mark.parametrize("error", [None, NotFoundError("it does not exist")], ids=["an answer", "an error"])
async def test_what_was_read_from_two_incarnations_is_no_answer(failover: Failover, error: Exception | None) -> None:
    async with Database.open(failover.server.url) as database:
        with database.one_incarnation() as check:
            await database.fetch("select 1")
            check()
        await failover.server.stop()
        await failover.server.start()

        async def read() -> None:
            with database.one_incarnation() as check:
                await reached(database)
                with pytest.raises(StaleError):
                    check()
                if error is not None:
                    raise error

        with pytest.raises(StaleError):
            await read()


async def test_an_empty_database_at_the_same_address_is_not_ours(failover: Failover) -> None:
    async with Database.open(failover.server.url) as database:
        connection = await asyncpg.connect(failover.server.url)
        await connection.execute("drop schema ripieno cascade")
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        await connection.close()
        said = ""
        async with asyncio.timeout(20):
            while "does not hold our schema" not in said:  # the end of each session is noticed first
                with pytest.raises(UnavailableError) as refused:
                    await database.fetch("select 1")
                said = refused.value.detail


END = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()"


@pytest.fixture
def name(database_url: str) -> str:
    """Of the database."""
    return database_url.partition("?")[0].rpartition("/")[2]


async def test_a_copy_that_took_its_place_is_another_one(
    postgres: EmbeddedPostgres, database_url: str, name: str
) -> None:
    """A backup on the same server: it was not started anew, and what the cluster is called was copied, too."""
    async with Database.open(database_url):
        pass
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f"create database copy_of_{name} template {name}")
        async with Database.open(database_url) as database:
            world = World(database)
            await world.session("lost")
            await connection.execute(f"alter database {name} allow_connections false")
            await connection.execute(END, name)
            await connection.execute(f"drop database {name}")
            await connection.execute(f"alter database copy_of_{name} rename to {name}")
            await reached(database)
            assert database.incarnation == 2
            with pytest.raises(NotFoundError):
                await world.sessions.find("lost")
    finally:
        await connection.close()


async def test_tables_that_were_restored_under_open_sessions_are_others(
    database_url: str,
) -> None:
    async with Database.open(database_url) as database:
        world = World(database)
        await world.session("lost")
        session = database.own_session()
        async with session.acquire() as connection:
            await database.check_incarnation(connection)
        restoring = await asyncpg.connect(database_url)
        try:
            async with restoring.transaction():
                await restoring.execute("create table copy (like ripieno.cluster including all)")
                await restoring.execute("insert into copy select * from ripieno.cluster")
                await restoring.execute("drop table ripieno.cluster; alter table copy rename to cluster")
                await restoring.execute("alter table cluster set schema ripieno; delete from ripieno.sessions")
        finally:
            await restoring.close()
        with pytest.raises(StaleError):
            async with session.acquire() as connection:
                await database.check_incarnation(connection)
        async with session.acquire() as connection:
            await database.check_incarnation(connection)
        assert database.incarnation == 2
        with pytest.raises(NotFoundError):
            await world.sessions.find("lost")
