"""Counts of a session: sums of differences, the same before, while and after they are folded."""

import asyncio

from ripieno.domain.statuses import TaskStatus
from ripieno.store.sessions.counts import fold_counts, read_counts
from store.world import World, done, failed, task


async def rows_of_counts(world: World) -> int:
    [(count,)] = await world.rows("select count(*) from session_counts")
    assert isinstance(count, int)
    return count


async def test_never_a_zero_entry(world: World) -> None:
    number = await world.number()
    assert await read_counts(world.database, [number]) == {}
    a, b = await world.begin(task("a", "ka"), task("b"))
    assert await read_counts(world.database, [number]) == {TaskStatus.DISPATCHED: 2}
    await world.commit(done(a, {"ka": b"1"}), failed(b))
    assert await read_counts(world.database, [number]) == {TaskStatus.SUBMITTED: 1, TaskStatus.COMPLETED: 1}


async def test_sessions_are_summed_once_each(world: World) -> None:
    numbers = [await world.number(), await world.session("other")]
    await world.submit(task("a"))
    await world.submit(task("b"), session_id="other")
    assert await read_counts(world.database, [*numbers, *numbers]) == {TaskStatus.SUBMITTED: 2}
    assert await read_counts(world.database, []) == {}


async def test_folding_changes_no_sum(world: World) -> None:
    number = await world.number()
    for n in range(40):
        await world.submit(task(f"t{n}", f"k{n}"))
        await world.run(**{f"t{n}": f"k{n}"})
    await world.submit(task("last"))
    before = await read_counts(world.database, [number])
    assert await rows_of_counts(world) > 64
    assert await fold_counts(world.database) == 1
    assert await rows_of_counts(world) == 3  # two statuses, and bytes
    assert await read_counts(world.database, [number]) == before
    assert await fold_counts(world.database) == 0


async def test_few_differences_are_left_alone(world: World) -> None:
    await world.submit(task("a"))
    assert await fold_counts(world.database) == 0
    assert await rows_of_counts(world) == 2


async def test_replicas_that_fold_while_work_goes_on(world: World) -> None:
    """Everybody who looks sees every task exactly once, whoever is folding."""
    number = await world.number()
    total = 150
    seen: list[int] = []

    async def fold() -> None:
        for _ in range(40):
            await fold_counts(world.database)

    async def look() -> None:
        for _ in range(200):
            counts = await read_counts(world.database, [number])
            assert all(count > 0 for count in counts.values())
            seen.append(sum(counts.values()))

    async def work() -> None:
        for n in range(total):
            await world.submit(task(f"t{n}"))
            await world.commit(*(done(each) for each in (await world.claim()).values()))

    async with asyncio.TaskGroup() as group:
        for job in (fold(), fold(), look(), work()):
            group.create_task(job)
    assert seen == sorted(seen)
    assert await read_counts(world.database, [number]) == {TaskStatus.COMPLETED: total}
