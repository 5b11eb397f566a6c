"""Claims that go on from where the last one ended: in order, complete, and back at the beginning in time."""

import time

import pytest

from ripieno.store.attempts import reaches
from ripieno.store.attempts.claim import Claimed
from ripieno.store.attempts.reaches import Reaches
from ripieno.store.database.queries import Queries
from ripieno.store.reading.sanity import broken_invariants
from store import plans
from store.world import World, done, failed, options, task

N = 100
#: Of (priority, number).
PLACE = (50, 7)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims go onward wherever they may, and stay so."""
    monkeypatch.setattr(reaches, "_LONG_S", 0.0)
    monkeypatch.setattr(reaches, "_LARGE", 10)
    monkeypatch.setattr(reaches, "_IN_VAIN_S", 0.0)
    monkeypatch.setattr(reaches, "_ONWARD", 1e9)
    monkeypatch.setattr(reaches, "_LONGEST_ONWARD_S", 1e9)
    monkeypatch.setattr(Reaches, "went_on", _went_on_in_time)


_went_on = Reaches.went_on


def _went_on_in_time(
    self: Reaches, partition: str, reach: reaches.Reach, last: tuple[int, int] | None, _: float
) -> None:
    _went_on(self, partition, reach, last, 0.0)


async def filled(world: World) -> list[str]:
    names = [f"t{n:03d}" for n in range(N)]
    await world.submit(*(task(name, name) for name in names))
    return names


@pytest.mark.usefixtures("always")
async def test_claims_that_go_onward_take_all_in_order(world: World) -> None:
    names = await filled(world)
    claimed: list[str] = []
    for _ in range(N // 10):
        claimed += await world.claim(10)
    assert claimed == names
    assert await world.claim(10) == {} and await broken_invariants(world.database) == []


@pytest.mark.usefixtures("always")
async def test_what_is_more_urgent_is_before_all_others(world: World) -> None:
    names = await filled(world)
    await world.claim(10)
    await world.submit(*(task(f"urgent{n}") for n in range(5)), of=options(priority=60))
    await world.submit(*(task(f"idle{n}") for n in range(5)), of=options(priority=40))
    assert list(await world.claim(10)) == [f"urgent{n}" for n in range(5)] + names[10:15]
    assert list(await world.claim(10)) == names[15:25]


@pytest.mark.usefixtures("always")
async def test_a_claim_that_comes_back_short_looks_behind_itself(world: World) -> None:
    names = await filled(world)
    first = await world.claim(10)
    await world.commit(*(failed(each) for each in first.values()))
    claimed: list[str] = []
    while some := await world.claim(25):
        claimed += some
    assert sorted(claimed) == names


@pytest.mark.usefixtures("always")
async def test_a_small_claim_begins_at_the_beginning(world: World) -> None:
    await filled(world)
    first: dict[str, Claimed] = await world.claim(10)
    await world.commit(failed(first["t003"]))
    assert list(await world.claim(1)) == ["t003"]


def test_quick_claims_and_small_ones_leave_nothing_to_go_on_from() -> None:
    known = Reaches()
    known.began("", 512, PLACE, 0.001)
    known.began("small", 5, PLACE, 1.0)
    known.began("short", 512, None, 1.0)
    assert [known.of(partition, 512) for partition in ("", "small", "short")] == [None] * 3


def test_a_long_claim_is_gone_on_from_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Reaches()
    known.began("", 512, PLACE, 0.5)
    reach = known.of("", 512)
    assert reach is not None and known.of("", 1) is None and known.of("other", 512) is None
    known.went_on("", reach, (50, 900), 0.01)
    onward = known.of("", 512)
    assert onward is not None and onward.task_no == 900 and onward.until == reach.until
    monkeypatch.setattr(time, "monotonic", lambda: reach.until)
    assert known.of("", 512) is None


@pytest.mark.parametrize(("last", "took_s"), [(None, 0.01), ((50, 900), 0.4)], ids=["short", "in vain"])
def test_going_onward_ends_where_it_is_of_no_use(last: tuple[int, int] | None, took_s: float) -> None:
    known = Reaches()
    known.began("", 512, PLACE, 0.5)
    reach = known.of("", 512)
    assert reach is not None
    known.went_on("", reach, last, took_s)
    assert known.of("", 512) is None


async def test_what_lies_dead_behind_an_old_snapshot_is_not_walked_over_again(world: World) -> None:
    """Counted in entries of the index, which do not depend on the machine."""
    async with world.database.connection() as holder:
        await holder.execute("begin isolation level repeatable read; select 1 from cluster")
        for start in range(0, 6_000, 1_000):
            await world.submit(*(task(f"t{n}", f"t{n}") for n in range(start, start + 1_000)))
        for _ in range(10):
            got = await world.claim(500)
            await world.commit(*(done(each, {name: b""}) for name, each in got.items()))
        [(last,)] = await world.rows("select max(task_no) from states where status = 10")
        whole = await entries_read(world, Queries("claim").claim)
        onward = await entries_read(world, Queries("claim").claim_onward, "50", f"{last}")
        await holder.execute("rollback")
    assert whole > 5_000 and onward < 200


async def entries_read(world: World, claim: str, *place: str) -> int:
    """By a claim of a hundred tasks, of which nothing stays."""
    count = "select idx_tup_read from pg_stat_user_indexes where indexrelname = 'states_claimable'"
    async with world.database.connection() as connection:
        await connection.execute("select pg_stat_force_next_flush()")
        before = await connection.fetchval(count)
        arguments = ("''", "100", "5", "array_fill(7::bigint, array[100])", *place)
        plan = await plans.measured_plan(connection.raw, claim, *arguments)
        await connection.execute("select pg_stat_force_next_flush()")
        read: int = await connection.fetchval(count) - before
    assert plan["Actual Rows"] == 100
    return read
