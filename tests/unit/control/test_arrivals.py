"""Submissions wait for their turn, in the order of arrival, and give it back however they end."""

import asyncio

import pytest

from ripieno.control.calls import arrivals
from ripieno.control.calls.arrivals import Arrivals, Turns
from ripieno.control.calls.limits import Limit
from ripieno.domain.errors import OverloadedError

MIB = 1024 * 1024


@pytest.fixture
def room() -> Arrivals:
    return Arrivals(Limit("submission_memory_bytes", 16 * MIB, "bytes of submissions in memory", "send it again"))


async def test_turns_come_in_order_and_a_large_one_is_not_overtaken() -> None:
    turns, order = Turns(3), []

    async def take(name: str, amount: int) -> None:
        assert await turns.take(amount, 10)
        order.append(name)

    await take("first", 2)
    waiting = [asyncio.create_task(take("large", 3)), asyncio.create_task(take("small", 1))]
    await asyncio.sleep(0)
    turns.give_back(2)
    await waiting[0]
    turns.give_back(3)
    await waiting[1]
    assert order == ["first", "large", "small"]
    assert turns.free == 2


async def test_whoever_gives_up_or_is_cancelled_takes_nothing() -> None:
    turns = Turns(1)
    assert await turns.take(1, 10)
    assert not await turns.take(1, 0.01)
    gone = asyncio.create_task(turns.take(1, 10))
    after = asyncio.create_task(turns.take(1, 10))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    turns.give_back(1)
    assert await after
    assert turns.free == 0


async def test_a_turn_that_comes_as_its_taker_is_cancelled_goes_to_the_next() -> None:
    turns = Turns(1)
    assert await turns.take(1, 10)
    gone = asyncio.create_task(turns.take(1, 10))
    await asyncio.sleep(0)
    turns.give_back(1)
    gone.cancel()
    await asyncio.wait([gone])
    assert turns.free == 1


async def test_small_submissions_do_not_wait_for_large_ones(room: Arrivals) -> None:
    large = await room.enter("a")
    large.arrived(8 * MIB)
    await large.hold()
    small = await room.enter("b")
    small.arrived(1000)
    await small.hold()
    small.leave()
    large.leave()


async def test_who_finds_no_room_is_told_the_limit_and_the_way_out(
    room: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_PATIENCE_S", 0.01)
    for connection in "ab":
        room.brought(connection, small=True)  # read at the same time
    first, second = await room.enter("a"), await room.enter("b")
    for arrival in first, second:
        arrival.arrived(5 * MIB)
    await first.hold()
    with pytest.raises(OverloadedError, match=r"submission_memory_bytes is 16,777,216.*send it again"):
        await second.hold()
    first.leave()
    await second.hold()


async def test_a_message_that_takes_long_keeps_nobody_waiting(room: Arrivals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "_READ_WITHIN_S", 0.01)
    for _ in range(3 * arrivals._READ_AT_ONCE):
        async with asyncio.timeout(1):
            await room.enter("slow")


async def test_who_brings_small_ones_is_not_read_behind_who_brings_large_ones(
    room: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_PATIENCE_S", 0.01)
    small = await room.enter("small")
    small.arrived(1000)
    small.leave()
    reading = [await room.enter(f"large {number}") for number in range(arrivals._READ_AT_ONCE)]
    with pytest.raises(OverloadedError, match=f"reads {arrivals._READ_AT_ONCE} submissions at a time"):
        await room.enter("unknown")
    deceiver = await room.enter("small")
    deceiver.arrived(8 * MIB)
    deceiver.leave()
    with pytest.raises(OverloadedError):
        await room.enter("small")
    for arrival in reading:
        arrival.leave()


async def test_who_takes_long_is_not_expected_to_bring_a_small_one(
    room: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_READ_WITHIN_S", 0.01)
    room.brought("slow", small=True)
    slow = await room.enter("slow")
    async with asyncio.timeout(10):
        while "slow" in room._expected:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    slow.arrived(1000)
    slow.leave()
    assert "slow" in room._expected


async def test_of_no_more_than_so_many_connections_small_ones_are_expected(
    room: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_MOST_EXPECTED", 2)
    for connection in "abc":
        room.brought(connection, small=True)
    assert list(room._expected) == ["b", "c"]


async def test_after_a_large_one_the_next_waits(room: Arrivals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(arrivals, "_LARGE_BYTES_S", MIB)
    large = await room.enter("a")
    large.arrived(8 * MIB)
    large.leave()
    with pytest.raises(OverloadedError, match="send the same again"):
        await room.enter("b")
    monkeypatch.setattr(arrivals, "_LARGE_BYTES_S", 1000 * MIB)
    monkeypatch.setattr(arrivals, "_READ_AT_ONCE", 1)
    other = Arrivals(Limit("submission_memory_bytes", 16 * MIB, "bytes of submissions in memory", "send it again"))
    large = await other.enter("a")
    large.arrived(8 * MIB)
    large.leave()
    monkeypatch.setattr(arrivals, "_PATIENCE_S", 10)
    small = await other.enter("b")
    small.leave()
