"""Transactions: all or nothing, whoever interrupts them, and run again where PostgreSQL refuses a crossing."""

import asyncio

import asyncpg
import pytest

from ripieno.domain.errors import InvalidRequestError, InvariantError, OutcomeUnknownError, UnavailableError
from ripieno.store.database.database import Connection, Database
from store.world import World, until_one_waits

WRITE = "insert into staged_objects (name) values ($1)"


async def names(database: Database) -> list[str]:
    return [row["name"] for row in await database.fetch("select name from staged_objects order by 1")]


async def test_a_failing_body_leaves_nothing(database: Database) -> None:
    async def body(connection: Connection) -> None:
        await connection.execute(WRITE, "x")
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        await database.transaction(body)
    assert await names(database) == []


@pytest.mark.parametrize("yields", range(6))
async def test_a_cancelled_caller_leaves_a_clean_connection(database_url: str, yields: int) -> None:
    """However far it had come: begun or not, writing, waiting."""
    async with Database.open(database_url, pool_size=2) as database:

        async def body(connection: Connection) -> None:
            await connection.execute(WRITE, "x")
            await connection.execute("select pg_sleep(60)")

        caller = asyncio.create_task(database.transaction(body))
        for _ in range(yields):
            await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        for name in "abcd":
            await database.fetch(WRITE, name)
    async with Database.open(database_url, pool_size=2) as database:
        assert await names(database) == ["a", "b", "c", "d"]


async def test_a_deadlock_is_run_again_and_counted(world: World) -> None:
    database = world.database
    await database.fetch("insert into staged_objects (name) values ('a'), ('b')")
    both_hold = asyncio.Barrier(2)
    runs = []

    async def write(first: str, second: str) -> None:
        async def body(connection: Connection) -> None:
            runs.append(first)
            await connection.execute("select from staged_objects where name = $1 for update", first)
            if len(runs) <= 2:
                await both_hold.wait()
            await connection.execute("update staged_objects set created_at = now() where name = $1", second)

        await database.transaction(body)

    await asyncio.gather(write("a", "b"), write("b", "a"))
    # The one that was refused may be quick enough to stand in the other's way again.
    assert database.crossings >= 1
    assert len(runs) == 2 + database.crossings


async def test_a_connection_that_breaks_inside_means_that_nothing_happened(world: World) -> None:
    async def body(connection: Connection) -> None:
        await connection.execute(WRITE, "x")
        pid = await connection.fetchval("select pg_backend_pid()")
        await world.rows("select pg_terminate_backend($1)", pid)
        await connection.execute("select 1")

    with pytest.raises(UnavailableError, match="the database cannot be reached"):
        await world.database.transaction(body)
    assert await names(world.database) == []


async def test_a_connection_that_breaks_at_the_commit_leaves_it_open(world: World) -> None:
    async def body(connection: Connection) -> None:
        await connection.execute(WRITE, "x")
        pid = await connection.fetchval("select pg_backend_pid()")
        await world.rows("select pg_terminate_backend($1)", pid)

    with pytest.raises(OutcomeUnknownError):
        await world.database.transaction(body)


async def test_who_waits_for_a_lock_can_be_cancelled(world: World) -> None:
    async def body(connection: Connection) -> None:
        await connection.execute("lock table staged_objects")

    async with world.database.connection() as connection:
        await connection.execute("begin; lock table staged_objects")
        waiting = asyncio.create_task(world.database.transaction(body))
        await until_one_waits(world)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await connection.execute("rollback")
    await world.database.transaction(body)


async def test_an_address_where_nobody_is(database_url: str) -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        async with Database.open("postgresql://user:secret@127.0.0.1:1/x"):
            pass
    with pytest.raises(InvalidRequestError, match="database") as refused:
        async with Database.open("postgresql://user:secret@127.0.0.1:notaport/x"):
            pass
    assert "secret" not in str(refused.value)
    with pytest.raises(InvalidRequestError):
        async with Database.open(database_url.replace("/test_", "/no_such_")):
            pass


async def test_the_planner_is_told_on_every_connection(database: Database) -> None:
    async with database.connection() as first, database.connection() as second, database.connection() as third:
        for connection in (first, second, third):
            assert await connection.fetchval("show enable_hashjoin") == "off"
            assert await connection.fetchval("show plan_cache_mode") == "force_generic_plan"
            assert await connection.fetchval("show search_path") == "ripieno"


async def test_a_statement_that_does_not_parse_is_our_bug(database: Database) -> None:
    with pytest.raises(InvariantError, match="syntax error") as raised:
        await database.fetch("selct 1")
    assert isinstance(raised.value.__cause__, asyncpg.PostgresSyntaxError)


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        ("select 1", (1,)),
        ("select $1::int", ()),
        ("select $1::bigint", ("one",)),
        ("select $1::text", (1,)),
        ("select $1::bigint[]", (["one"],)),
        ("select $1::text[]", ([b"one"],)),
    ],
)
async def test_arguments_of_another_number_or_type_are_our_bug(
    database: Database, statement: str, arguments: tuple[object, ...]
) -> None:
    """A statement with wrong arguments is not told as a passing fault, which would be tried again for ever."""
    with pytest.raises(InvariantError, match="a statement of ours is wrong"):
        await database.fetch(statement, *arguments)
    assert await database.fetch("select 1")  # the session is none the worse


@pytest.mark.parametrize(
    ("statement", "argument"),
    [
        ("select $1::bigint", 2**63),
        ("select $1::int[]", [2**31]),
        ("select $1::text", "\ud800"),
        ("select $1::text", "a\0b"),
        ("select $1::text[]", ["\ud800"]),
    ],
)
async def test_values_that_do_not_fit_are_whose_they_are(database: Database, statement: str, argument: object) -> None:
    with pytest.raises(InvalidRequestError, match="cannot store"):
        await database.fetch(statement, argument)
