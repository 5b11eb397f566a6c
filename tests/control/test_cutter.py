"""Cuts, promotions and revivals that are gone on with in the background: a fault of one session holds up no other."""

import asyncio

import pytest

from ripieno.control.upkeep import cutter as cutters
from ripieno.control.upkeep.cutter import Cutter
from ripieno.control.waiting.notices import Notices
from ripieno.domain.outcomes import Failure
from ripieno.store.cluster.signals import Signals
from ripieno.store.database import turns
from ripieno.store.database.database import Database
from ripieno.store.graph import cuts, promotions, revivals
from ripieno.store.sessions.changes import Changes
from store.world import World, done, failed, task

TASKS = 100
_PATIENCE_S = 30.0


async def begin_cut(world: World, session: str) -> set[int]:
    """Fail a task on which many wait; the cut that is left to do."""
    await world.session(session)
    await world.submit(task(f"first of {session}", "k"), session_id=session)
    await world.submit(*(task(f"{session}{n}", needs=["k"]) for n in range(TASKS)), session_id=session)
    [claimed] = (await world.claim()).values()
    changes, _ = await world.committer.commit([failed(claimed, "no", Failure.OUTPUT)])
    return changes.cuts


async def until_cut(world: World, *sessions: str) -> None:
    tasks = [f"{session}{n}" for session in sessions for n in range(TASKS)]
    async with asyncio.timeout(_PATIENCE_S):
        while set(await world.statuses(*tasks)) != {"ERROR"}:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


async def test_a_cut_that_fails_holds_up_no_other(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "_ON_THE_SIDE", (1, 20))
    async with Database.open(database_url) as database:
        world, cutter = World(database), Cutter(database, Notices(Signals(database, "alone")))
        left = [await begin_cut(world, session) for session in ("s", "t", "u")]
        assert all(left), "each of them is more than one step"
        async with database.connection() as connection:
            await connection.execute(f"""
                create function refuse() returns trigger language plpgsql as $$
                begin raise exception 'no' using errcode = 'P0001'; end $$;
                create trigger refuse before update on states for each row
                when (new.session_no = {await world.number("s")}) execute function refuse()
            """)
        for some in left:
            cutter.changed_here(Changes(cuts=some))
        cutting = asyncio.create_task(cutter.run())
        try:
            await until_cut(world, "t", "u")
            await world.rows("drop trigger refuse on states")
            await until_cut(world, "s")
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)


@pytest.mark.parametrize("left_by", ["us", "another"])
async def test_promotions_go_on(database_url: str, monkeypatch: pytest.MonkeyPatch, left_by: str) -> None:
    """Of a commit of this replica, and of one whose replica is gone."""
    monkeypatch.setattr(promotions, "_ON_THE_SIDE", 1)
    monkeypatch.setattr(promotions, "_STEP", 10)
    monkeypatch.setattr(cutters, "LOOK_EVERY_S", 0.2)
    async with Database.open(database_url) as database:
        world, cutter = World(database), Cutter(database, Notices(Signals(database, "alone")))
        await world.session()
        await world.submit(task("first", "k"), task("hopeless"))
        await world.submit(*(task(f"t{n}", needs=["k"]) for n in range(TASKS)))
        claimed = await world.claim()
        # A failure beside it: the commit is a careful one.
        ends = [done(claimed["first"], {"k": b""}), failed(claimed["hopeless"], "no", Failure.OUTPUT)]
        changes, _ = await world.committer.commit(ends)
        assert changes.promotions, "it is more than one step"
        if left_by == "us":
            cutter.changed_here(changes)
        promoting, ready = asyncio.create_task(cutter.run()), 0
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while ready < TASKS:
                    ready += len(await world.claim(TASKS))
                    await asyncio.sleep(0.02)
        finally:
            promoting.cancel()
            await asyncio.gather(promoting, return_exceptions=True)


@pytest.mark.parametrize("left_by", ["us", "another"])
async def test_revivals_go_on(database_url: str, monkeypatch: pytest.MonkeyPatch, left_by: str) -> None:
    """Of a retry that was interrupted here, and of one whose replica is gone."""
    monkeypatch.setattr(turns, "_SMALLEST", 10)
    monkeypatch.setattr(turns, "_LARGEST", 10)
    monkeypatch.setattr(cutters, "LOOK_EVERY_S", 0.2)
    async with Database.open(database_url) as database:
        database.turns.size = 10
        world, cutter = World(database), Cutter(database, Notices(Signals(database, "alone")))
        left = await begin_cut(world, "s")
        async for _ in cuts.finish(database, left):
            pass
        [(number,)] = await world.rows("select task_no from tasks where id = 'first of s'")
        assert isinstance(number, int)
        failed_tasks = await revivals.failed_of(database, [number])
        [step] = [each async for each in revivals.retry_tasks(database, await world.sessions.find("s"), failed_tasks)]
        assert step.changes.revivals, "it is more than one step"
        if left_by == "us":
            cutter.changed_here(step.changes)
        names = [f"s{n}" for n in range(TASKS)]
        reviving = asyncio.create_task(cutter.run())
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while set(await world.statuses(*names)) != {"SUBMITTED"}:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.02)
        finally:
            reviving.cancel()
            await asyncio.gather(reviving, return_exceptions=True)
