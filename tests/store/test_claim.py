"""Claiming: the most urgent first, each task once, and nobody waits."""

import asyncio

from ripieno.store.attempts.claim import Claims
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from store.world import World, done, failed, options, task


async def test_priority_first_then_order_of_submission(world: World) -> None:
    await world.submit(task("low 1"), task("low 2"), of=options(priority=1))
    await world.submit(task("high 1"), of=options(priority=99))
    await world.submit(task("middle"), of=options(priority=50))
    await world.submit(task("high 2"), of=options(priority=99))
    assert list(await world.claim()) == ["high 1", "high 2", "middle", "low 1", "low 2"]


async def test_all_99_priorities_are_told_apart(world: World) -> None:
    for priority in (50, 1, 99, *range(2, 50), *range(51, 99)):
        await world.submit(task(f"{priority}"), of=options(priority=priority))
    assert list(await world.claim()) == [f"{priority}" for priority in range(99, 0, -1)]


async def test_no_more_than_asked_and_the_rest_later(world: World) -> None:
    await world.submit(*(task(f"t{n}") for n in range(5)))
    assert list(await world.claim(2)) == ["t0", "t1"]
    assert list(await world.claim(2)) == ["t2", "t3"]
    assert list(await world.claim(2)) == ["t4"]
    assert await world.claim(2) == {}
    assert await world.claims.claim("", []) == []


async def test_the_claimed_go_to_agents_in_the_order_asked(world: World) -> None:
    await world.submit(*(task(f"t{n}") for n in range(5)))
    claimed = await world.claims.claim("", [11, 12, 11, 13])
    assert [(each.task_id, each.agent_no) for each in claimed] == [("t0", 11), ("t1", 12), ("t2", 11), ("t3", 13)]
    assert len({each.ticket.claim for each in claimed}) == 4


async def test_a_partition_sees_its_own_tasks_only(world: World) -> None:
    await world.submit(task("any"))
    await world.submit(task("gpu"), of=options(partition="gpu"))
    await world.submit(task("GPU"), of=options(partition="GPU"))
    assert list(await world.claim(partition="gpu")) == ["gpu"]
    assert list(await world.claim(partition="GPU")) == ["GPU"]
    assert list(await world.claim()) == ["any"]


async def test_rows_that_somebody_else_is_claiming_are_skipped(world: World) -> None:
    await world.submit(*(task(f"t{n}") for n in range(4)))
    statement = Queries("claim").claim
    async with world.database.connection() as connection:
        await connection.execute("begin")
        assert len(await connection.fetch(statement, "", 2, 5, [1, 1])) == 2
        async with asyncio.timeout(5):
            assert list(await world.claim()) == ["t2", "t3"]
        await connection.execute("rollback")
    assert list(await world.claim()) == ["t0", "t1"]


async def test_claimers_never_get_the_same(world: World) -> None:
    total = 600
    await world.submit(*(task(f"t{n}") for n in range(total)))
    seen: list[str] = []

    async def claimer(agent: int) -> None:
        claims = Claims(world.database)
        while some := await claims.claim("", [agent] * 7):
            seen.extend(each.task_id for each in some)

    async with asyncio.TaskGroup() as group:
        for agent in range(6):
            group.create_task(claimer(agent))
    assert len(seen) == len(set(seen)) == total


async def test_a_claim_that_was_forgotten_is_refused_afterwards(world: World, database: Database) -> None:
    """What a crash of the database does to a claim whose commit did not reach the disk."""
    [claimed] = await world.begin(task("a", "ka"))
    await database.fetch("update states set status = 1, claim = null, agent_no = null, claimed_at = null")
    await database.fetch("insert into session_counts select session_no, 1, 1 from states")
    await database.fetch("insert into session_counts select session_no, 2, -1 from states")
    again = (await world.claim())["a"]
    _, lost = await world.committer.commit([done(claimed, {"ka": b"old"})])
    assert lost == [claimed.ticket]
    await world.commit(done(again, {"ka": b"new"}))
    assert await world.data("ka") == b"new"


async def test_a_retry_goes_before_what_was_submitted_later(world: World) -> None:
    await world.submit(task("a"), task("b"))
    first = (await world.claim(1))["a"]
    await world.commit(failed(first))
    again = await world.claim()
    assert list(again) == ["a", "b"]
    assert again["a"].retry == 1
