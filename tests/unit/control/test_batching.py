"""Group commit: what gathers goes together, and one failure reaches those concerned."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from ripieno.control.calls.batching import Batcher


@asynccontextmanager
async def running(batcher: Batcher[int, int]) -> AsyncIterator[None]:
    task = asyncio.create_task(batcher.run())
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_arrives_during_a_flush_goes_into_the_next_one() -> None:
    flushed: list[Sequence[int]] = []
    first_began, first_may_end = asyncio.Event(), asyncio.Event()

    async def flush(items: Sequence[int]) -> Sequence[int]:
        flushed.append(items)
        first_began.set()
        if len(flushed) == 1:
            await first_may_end.wait()
        return [item * 10 for item in items]

    batcher: Batcher[int, int] = Batcher(flush, largest=100)
    async with running(batcher):
        first = batcher.put(1)
        await first_began.wait()
        others = [batcher.put(number) for number in (2, 3, 4)]
        first_may_end.set()
        assert [await answer for answer in (first, *others)] == [10, 20, 30, 40]
    assert flushed == [[1], [2, 3, 4]]


async def test_a_flush_takes_no_more_than_its_weight_but_always_something() -> None:
    flushed: list[Sequence[int]] = []

    async def flush(items: Sequence[int]) -> Sequence[int]:
        flushed.append(items)
        return items

    batcher: Batcher[int, int] = Batcher(flush, weigh=lambda item: item, largest=5)
    answers = [batcher.put(number) for number in (2, 3, 9, 1)]
    async with running(batcher):
        assert [await answer for answer in answers] == [2, 3, 9, 1]
    assert flushed == [[2, 3], [9], [1]]


async def test_a_failure_reaches_all_of_its_flush_and_nobody_else() -> None:
    async def flush(items: Sequence[int]) -> Sequence[int]:
        if 2 in items:
            raise ValueError("two")
        return items

    batcher: Batcher[int, int] = Batcher(flush, largest=2)
    bad, also_bad, good = batcher.put(1), batcher.put(2), batcher.put(3)
    async with running(batcher):
        for answer in (bad, also_bad):
            with pytest.raises(ValueError, match="two"):
                await answer
        assert await good == 3


async def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    flushed: list[Sequence[int]] = []

    async def flush(items: Sequence[int]) -> Sequence[int]:
        flushed.append(items)
        return items

    batcher: Batcher[int, int] = Batcher(flush, largest=100)
    answers = [batcher.put(number) for number in (1, 2, 3, 4)]
    answers[0].cancel()
    answers[2].cancel()
    async with running(batcher):
        assert [await answers[1], await answers[3]] == [2, 4]
        last = batcher.put(5)
        last.cancel()
        assert await batcher.put(6) == 6
    assert flushed == [[2, 4], [6]]
