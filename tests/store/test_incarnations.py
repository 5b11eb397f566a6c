"""What was kept of a database is not used with another one: a fail-over that lost commits, a restore, a stranger."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ripieno.domain.errors import NotFoundError, UnavailableError
from ripieno.store.database import Connection, Database
from ripieno.store.embedded import EmbeddedPostgres
from ripieno.store.faults import StaleError
from ripieno.store.submission import submit
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
