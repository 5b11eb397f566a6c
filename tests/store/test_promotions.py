"""Promotions in many steps: who is not reached waits, whatever happens meanwhile; nobody is reached twice."""

import asyncio

import pytest

from ripieno.domain.outcomes import Failure
from ripieno.store.graph import promotions
from ripieno.store.graph.abandoned import Abandoned
from ripieno.store.reading.sanity import broken_invariants
from store.world import World, done, failed, promoted, task

N = 40
NAMES = [f"t{n:02d}" for n in range(N)]

#: More than the plain commit promotes.
VERY_MANY = 3_000


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three dependents, where the commit is a careful one."""
    monkeypatch.setattr(promotions, "_ON_THE_SIDE", 3)
    monkeypatch.setattr(promotions, "_STEP", 3)


async def complete_carefully(world: World, *names: str) -> None:
    """Complete tasks, each with its result of the same name, in a commit that is not plain: one more task fails in it."""
    await world.submit(task("hopeless"))
    claimed = await world.claim()
    outcomes = [done(claimed[name], {name: b"r"}) for name in names]
    await world.committer.commit([*outcomes, failed(claimed["hopeless"], failure=Failure.OUTPUT)])


@pytest.mark.usefixtures("small_steps")
async def test_dependents_are_promoted_step_by_step(world: World) -> None:
    await world.submit(task("a", "a"), task("b", "b"))
    needs = (["a"], ["b"], ["a", "b"])
    await world.submit(*(task(name, name, needs=needs[n % 3]) for n, name in enumerate(NAMES)))
    await complete_carefully(world, "a", "b")
    claimed, steps = set(await world.claim()), 0
    assert claimed == {"t00", "t03"}  # and t02, which waits for another one
    while await world.rows("select 1 from pending_promotions"):
        assert await broken_invariants(world.database) == []
        await promotions.step(world.database, await world.number())
        claimed |= set(await world.claim())
        steps += 1
    assert claimed == set(NAMES) and steps > N // 4
    assert await broken_invariants(world.database) == []


@pytest.mark.usefixtures("small_steps")
async def test_who_is_cancelled_or_fails_between_two_steps_is_not_promoted(world: World) -> None:
    await world.submit(task("a", "a"), task("b", "b"))
    await world.submit(*(task(name, name, needs=["a", "b"]) for name in NAMES))
    await complete_carefully(world, "a")
    await world.cancel(*NAMES[: N // 2])
    await world.cancel("b")
    assert await broken_invariants(world.database) == []
    await promoted(world.database, [await world.number()])
    assert await world.statuses(*NAMES) == ["CANCELLED"] * (N // 2) + ["ERROR"] * (N // 2)
    assert await world.claim() == {} and await broken_invariants(world.database) == []


@pytest.mark.usefixtures("small_steps")
async def test_whoever_comes_between_two_steps_need_not_wait(world: World) -> None:
    await world.submit(task("a", "a"))
    await world.submit(*(task(name, needs=["a"]) for name in NAMES))
    await complete_carefully(world, "a")
    await world.claim()
    await world.submit(task("later", needs=["a"]))
    assert set(await world.claim()) == {"later"}
    await promoted(world.database, [await world.number()])
    assert len(await world.claim()) == N - 3 and await broken_invariants(world.database) == []


@pytest.mark.usefixtures("small_steps")
async def test_two_replicas_promote_nobody_twice(world: World) -> None:
    await world.submit(task("a", "a"))
    await world.submit(*(task(name, needs=["a"]) for name in NAMES))
    await complete_carefully(world, "a")
    session_no = await world.number()
    while await world.rows("select 1 from pending_promotions"):
        await asyncio.gather(*(promotions.step(world.database, session_no) for _ in range(4)))
        assert await broken_invariants(world.database) == []
    assert set(await world.claim()) == set(NAMES)


@pytest.mark.usefixtures("small_steps")
async def test_promotions_that_were_left_in_the_middle_are_found(world: World) -> None:
    await world.submit(task("a", "a"))
    await world.submit(*(task(name, needs=["a"]) for name in NAMES))
    await complete_carefully(world, "a")
    abandoned = Abandoned(world.database)
    assert (await abandoned.look()).promotions == []
    assert (await abandoned.look()).promotions == [await world.number()]
    await promotions.step(world.database, await world.number())
    assert (await abandoned.look()).promotions == []  # somebody is at it


async def test_a_plain_commit_leaves_very_many_dependents_to_later_steps(world: World) -> None:
    [root] = await world.begin(task("root", "r"))
    await world.submit(*(task(f"t{n}", needs=["r"]) for n in range(VERY_MANY)))
    changes, lost = await world.committer.commit([done(root, {"r": b"r"})])
    assert lost == [] and changes.promotions == {await world.number()} and changes.partitions == {""}
    claimed = await world.claim(VERY_MANY)
    assert 0 < len(claimed) < VERY_MANY // 2
    await world.finish_cuts(changes)
    assert len(claimed | await world.claim(VERY_MANY)) == VERY_MANY
    assert await broken_invariants(world.database) == []
