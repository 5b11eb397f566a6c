"""Small reports about attempts: begun, given back, being interrupted."""

import asyncio

from ripieno.domain.outcomes import Ticket
from ripieno.store.attempts.attempts import mark_interrupting_if_owned, mark_started_if_owned, release_if_owned
from ripieno.store.database.queries import Queries
from store.world import World, done, failed, over, task, until_one_waits

STARTED_AT_US = 1_700_000_000_250_000


async def test_an_attempt_that_has_begun_is_processing(world: World) -> None:
    a, b = await world.begin(task("a"), task("b"))
    changes = await mark_started_if_owned(world.database, [(b.ticket, STARTED_AT_US, "w2"), (a.ticket, 1, "w1")])
    assert changes.sessions == {await world.number()}
    assert await world.statuses("a", "b") == ["PROCESSING", "PROCESSING"]
    assert await world.rows(
        "select worker, (extract(epoch from started_at) * 1e6)::bigint from states where worker = 'w2'"
    ) == [("w2", STARTED_AT_US)]
    again = await mark_started_if_owned(world.database, [(a.ticket, 2, "w3")])
    assert again.sessions == set()


async def test_nothing_is_done_for_who_owns_nothing(world: World) -> None:
    [first] = await world.begin(task("a", "ka"))
    await world.commit(failed(first))
    second = (await world.claim())["a"]
    assert (await mark_started_if_owned(world.database, [(first.ticket, 1, "w")])).sessions == set()
    assert (await mark_interrupting_if_owned(world.database, [first.ticket])).sessions == set()
    changes, refused = await release_if_owned(world.database, [first.ticket, Ticket(999, 1, 5)])
    assert changes.sessions == set() and len(refused) == 2
    assert await world.statuses("a") == ["DISPATCHED"]
    await world.commit(done(second, {"ka": b"1"}))
    assert (await mark_started_if_owned(world.database, [(second.ticket, 1, "w")])).sessions == set()
    assert (await release_if_owned(world.database, [second.ticket]))[1] == [second.ticket]
    assert (await release_if_owned(world.database, []))[1] == []


async def test_a_release_uses_no_attempt_up(world: World) -> None:
    [first] = await world.begin(task("a", "ka"))
    await world.commit(failed(first, "one"))
    claimed = first
    for _ in range(3):
        claimed = (await world.claim())["a"]
        assert claimed.retry == 1
        await mark_started_if_owned(world.database, [(claimed.ticket, 1, "w")])
        changes, refused = await release_if_owned(world.database, [claimed.ticket])
        assert refused == []
        assert (changes.sessions, changes.partitions) == ({await world.number()}, {""})
        assert await world.statuses("a") == ["SUBMITTED"]
    assert await world.reasons("a") == [("ERROR", "one")]
    _, lost = await world.committer.commit([done(claimed, {"ka": b"late"})])
    assert lost == [claimed.ticket]
    await world.run(a="ka")


async def test_a_release_that_meets_the_start_of_the_attempt(world: World) -> None:
    """The count goes from the status that it finds, not from that of its snapshot (INV-12)."""
    [claimed] = await world.begin(task("a"))
    number, ticket = await world.number(), claimed.ticket
    async with world.database.connection() as connection:
        await connection.execute("begin")
        await connection.execute(Queries("commit").mark_started_if_owned, [ticket.task_no], [ticket.claim], [1], ["w"])
        await connection.execute("insert into session_counts values ($1, 2, -1), ($1, 3, 1)", number)
        release = asyncio.create_task(release_if_owned(world.database, [ticket]))
        await until_one_waits(world)
        await connection.execute("commit")
        assert (await release)[1] == []
    assert await world.statuses("a") == ["SUBMITTED"]


async def test_a_rescued_attempt_keeps_when_and_where_it_began(world: World) -> None:
    a, b = await world.begin(task("a"), task("b"))
    await mark_started_if_owned(world.database, [(each.ticket, STARTED_AT_US, "w1") for each in (a, b)])
    await world.cancel("b")
    lost = [failed(each, "its agent was lost")._replace(started_at_us=0, worker="") for each in (a, b)]
    await world.commit(*lost)
    assert await world.statuses("a", "b") == ["SUBMITTED", "CANCELLED"]
    assert await world.rows(
        "select status, worker, (extract(epoch from started_at) * 1e6)::bigint from attempts order by task_no"
    ) == [(11, "w1", STARTED_AT_US), (13, "w1", STARTED_AT_US)]


async def test_interrupting_is_noted_for_cancelled_attempts_only(world: World) -> None:
    a, b = await world.begin(task("a"), task("b"))
    await world.cancel("a")
    changes = await mark_interrupting_if_owned(world.database, [b.ticket, a.ticket])
    assert changes.sessions == {await world.number()}
    assert await world.rows("select started_at is null from states order by task_no") == [(False,), (True,)]
    await world.commit(over(a.ticket))


async def test_a_cancelled_attempt_is_not_released(world: World) -> None:
    [a] = await world.begin(task("a", "ka"))
    await world.cancel("a")
    _, refused = await release_if_owned(world.database, [a.ticket])
    assert refused == [a.ticket]
    await world.commit(over(a.ticket))
    assert await world.statuses("a") == ["CANCELLED"]
    assert await world.results("ka") == ["ABORTED"]
