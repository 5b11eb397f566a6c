"""Retention: which sessions go, and when."""

from ripieno.domain.outcomes import Failure
from ripieno.domain.statuses import SessionStep
from ripieno.store.database.database import Database
from ripieno.store.life.retention import alone, forget_deleted, note_ended, retain
from store.world import World, done, failed, task, whole


async def age(world: World, seconds: int) -> None:
    """All sessions that have ended did so earlier."""
    await note_ended(world.database)
    await world.database.fetch("update sessions set ended_at = ended_at - $1 * interval '1 second'", seconds)


async def ids(world: World) -> dict[str, int]:
    """The status of each session."""
    rows = await world.rows("select id, status from sessions order by id")
    return {str(session_id): int(str(status)) for session_id, status in rows}


async def test_only_what_has_ended_long_ago_goes(world: World) -> None:
    for name in ("running", "paused", "closed", "busy", "cancelled", "young"):
        await world.session(name)
        await world.submit(task(f"t {name}", f"k {name}"), session_id=name)
    claimed = await world.claim()
    for name in ("running", "paused", "closed", "cancelled", "young"):
        await world.commit(done(claimed[f"t {name}"], {f"k {name}": b"data"}))
    await world.live(SessionStep.PAUSE, "paused")
    for name in ("closed", "busy"):
        await world.live(SessionStep.CLOSE, name)
    await world.live(SessionStep.CANCEL, "cancelled")
    await age(world, 100)
    await world.live(SessionStep.CLOSE, "young")
    await note_ended(world.database)

    changes = await whole(retain(world.database, SessionStep.PURGE, 60))

    assert changes.gone == {await world.number("closed"), await world.number("cancelled")}
    assert await ids(world) == {
        "s": 1, "running": 1, "paused": 2, "closed": 12, "busy": 11, "cancelled": 12, "young": 11,
    }  # fmt: skip
    await whole(retain(world.database, SessionStep.DELETE, 60))
    assert await ids(world) == {"s": 1, "running": 1, "paused": 2, "busy": 11, "young": 11}
    assert await world.rows("select id from deleted_sessions order by 1") == [("cancelled",), ("closed",)]
    assert await world.rows("select 1 from tasks where id in ('t closed', 't cancelled')") == []


async def test_a_session_in_which_something_is_retried_has_not_ended(world: World) -> None:
    [claimed] = await world.begin(task("t", "k"))
    await world.commit(failed(claimed, failure=Failure.OUTPUT))
    await world.live(SessionStep.CLOSE)
    await age(world, 100)
    assert await world.retry("t") == ["t"]
    await whole(retain(world.database, SessionStep.PURGE, 60))
    assert await ids(world) == {"s": 11}
    await world.run(t="k")
    await whole(retain(world.database, SessionStep.PURGE, 60))
    assert await ids(world) == {"s": 11}  # it ended just now
    await age(world, 100)
    await whole(retain(world.database, SessionStep.PURGE, 60))
    assert await ids(world) == {"s": 12}


async def test_ids_come_back_after_a_year(world: World) -> None:
    await world.live(SessionStep.DELETE)
    await forget_deleted(world.database)
    assert await world.rows("select id from deleted_sessions") == [("s",)]
    await world.database.fetch("update deleted_sessions set deleted_at = now() - interval '366 days'")
    await forget_deleted(world.database)
    assert await world.rows("select id from deleted_sessions") == []


async def test_one_replica_at_a_time(database_url: str, world: World) -> None:
    async with Database.open(database_url) as other:
        here, there = world.database.own_session(), other.own_session()
        async with alone(here) as ours, alone(there) as theirs:
            assert (ours, theirs) == (True, False)
        async with alone(there) as theirs:
            assert theirs
