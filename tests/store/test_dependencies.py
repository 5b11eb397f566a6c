"""Dependencies: counted once, found whenever they are announced, never missed."""

import asyncio

import pytest

from ripieno.domain.errors import AlreadyExistsError
from store.world import World, done, failed, task


async def test_a_task_waits_for_its_inputs(world: World) -> None:
    await world.submit(task("a", "ka"), task("b", "kb", needs=["ka"]))
    claimed = await world.claim()
    assert list(claimed) == ["a"]
    changes = await world.commit(done(claimed["a"], {"ka": b"1"}))
    assert changes.partitions == {""}
    assert list(await world.claim()) == ["b"]


async def test_an_input_that_is_there_already_is_not_waited_for(world: World) -> None:
    await world.submit(task("a", "ka"))
    await world.run(a="ka")
    await world.submit(task("b", "kb", needs=["ka"]))
    assert await world.rows("select count(*) from dependencies") == [(0,)]
    await world.run(b="kb")


async def test_an_input_may_be_announced_later(world: World) -> None:
    await world.submit(task("b", "kb", needs=["ka"]))
    assert await world.results("ka") == ["-"]
    await world.submit(task("a", "ka"))
    assert await world.results("ka") == ["CREATED"]
    await world.run(a="ka")
    await world.run(b="kb")


async def test_a_named_key_can_be_named_again_and_announced_once(world: World) -> None:
    await world.submit(task("b", "kb", needs=["ka"]))
    await world.submit(task("c", "kc", needs=["ka"]), task("a", "ka"))
    with pytest.raises(AlreadyExistsError):
        await world.submit(task("d", "ka"))
    await world.run(a="ka")
    assert set(await world.claim()) == {"b", "c"}


async def test_the_same_input_twice_counts_once(world: World) -> None:
    await world.submit(task("a", "ka"), task("b", needs=["ka", "ka", "ka"]))
    await world.run(a="ka")
    assert list(await world.claim()) == ["b"]


async def test_every_input_counts(world: World) -> None:
    await world.submit(task("a", "k1", "k2"), task("b", "k3"), task("c", needs=["k1", "k2", "k3"]))
    claimed = await world.claim()
    changes = await world.commit(done(claimed["a"], {"k1": b"1", "k2": b"2"}))
    assert changes.partitions == set()
    assert await world.claim() == {}
    await world.commit(done(claimed["b"], {"k3": b"3"}))
    assert list(await world.claim()) == ["c"]


async def test_the_same_key_of_another_session_is_another_input(world: World) -> None:
    await world.session("other")
    await world.submit(task("a", "k"), session_id="other")
    await world.submit(task("b", needs=["k"]))
    await world.run(a="k")
    assert await world.claim() == {}


async def test_two_commits_that_each_complete_one_of_the_last_two_inputs(world: World) -> None:
    await world.submit(task("a", "ka"), task("b", "kb"), *(task(f"c{n}", needs=["ka", "kb"]) for n in range(50)))
    claimed = await world.claim(2)
    other = World(world.database)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.commit(done(claimed["a"], {"ka": b"1"})))
        group.create_task(other.commit(done(claimed["b"], {"kb": b"1"})))
    assert len(await world.claim()) == 50


async def test_an_aborted_input_fails_a_new_task_at_once(world: World) -> None:
    await world.submit(task("a", "ka"))
    await world.commit(failed((await world.claim())["a"]))
    await world.commit(failed((await world.claim())["a"]))
    await world.commit(failed((await world.claim())["a"], "third and last"))
    await world.submit(task("w", "kw", needs=["kc"]))  # waits for what the next call announces
    changes = await world.submit(task("b", "kb", needs=["ka"]), task("c", "kc", needs=["kb"]), task("d", "kd"))
    assert await world.statuses("b", "c", "w", "d") == ["ERROR", "ERROR", "ERROR", "SUBMITTED"]
    assert await world.results("kb", "kc", "kw", "kd") == ["ABORTED"] * 3 + ["CREATED"]
    assert list(changes.aborted) == [await world.number()]
    [(_, reason)] = await world.reasons("w")
    assert reason == (
        "input 'kc' was aborted: task 'c' ended in ERROR: input 'kb' was aborted: task 'b' ended in ERROR: "
        "input 'ka' was aborted: task 'a' ended in ERROR: third and last"
    )


async def test_tasks_that_wait_for_each_other_wait_for_a_cancellation(world: World) -> None:
    await world.submit(task("a", "ka", needs=["kb"]), task("b", "kb", needs=["ka"]))
    assert await world.claim() == {}
    await world.cancel_session()
    assert await world.statuses("a", "b") == ["CANCELLED", "CANCELLED"]
    assert await world.results("ka", "kb") == ["ABORTED", "ABORTED"]
