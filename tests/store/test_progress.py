"""How far attempts have come: what their agents told last, while they run, and of no other attempt."""

from datetime import UTC, datetime

from ripieno.domain.progress import Progress
from ripieno.store.attempts.attempts import release_if_owned
from ripieno.store.attempts.progress import forget_progress, keep_progress
from ripieno.store.reading.progress import AttemptProgress, progress_in_session
from store.world import World, done, failed, task

EVER = datetime(1970, 1, 1, tzinfo=UTC)


async def told(
    world: World, since: datetime = EVER, session_id: str = "s", task_no: int | None = None
) -> list[AttemptProgress]:
    return await progress_in_session(world.database, await world.number(session_id), since, task_no)


async def test_the_latest_of_each_attempt_that_runs_is_told(world: World) -> None:
    first, second, silent = await world.begin(task("one", "a"), task("two", "b"), task("silent", "c"))
    await keep_progress(world.database, [(first.ticket, Progress(0.1)), (second.ticket, Progress(0.5, "half"))])
    await keep_progress(world.database, [(first.ticket, Progress(0.2)), (first.ticket, Progress(0.3, "later"))])
    found = {each.task_id: each for each in await told(world)}
    assert {name: (each.attempt, each.progress) for name, each in found.items()} == {
        "one": (0, Progress(0.3, "later")),
        "two": (0, Progress(0.5, "half")),
    }
    assert [each.task_id for each in await told(world, since=found["one"].written_at)] == ["one"]
    assert [each.task_id for each in await told(world, task_no=second.ticket.task_no)] == ["two"]
    await world.session("other")
    assert await told(world, session_id="other") == []
    await world.commit(done(first, {"a": b""}), done(silent, {"c": b""}))
    assert [each.task_id for each in await told(world)] == ["two"], "what has ended says nothing"


async def test_an_attempt_says_nothing_for_the_next_one(world: World) -> None:
    [first] = await world.begin(task("t", "r"))
    await keep_progress(world.database, [(first.ticket, Progress(0.9))])
    await world.commit(failed(first))
    [second] = (await world.claim()).values()
    assert await told(world) == []
    await keep_progress(world.database, [(first.ticket, Progress(1.0)), (second.ticket, Progress(0.1))])
    assert [(each.attempt, each.progress) for each in await told(world)] == [(1, Progress(0.1))]
    await release_if_owned(world.database, [second.ticket])
    assert await told(world) == []


async def test_what_nobody_follows_any_more_is_dropped(world: World) -> None:
    [claimed] = await world.begin(task("t", "r"))
    await keep_progress(world.database, [(claimed.ticket, Progress(0.9))])
    await forget_progress(world.database, 3600)
    assert len(await told(world)) == 1
    await forget_progress(world.database, 0)
    assert await world.database.fetch("select from live_progress") == []
