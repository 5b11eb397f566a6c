"""Looks: asked for by changes, paced by their cost, and at everything by the clock."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ripieno.background import Health, Setback
from ripieno.control.waiting.looking import Look
from ripieno.domain.errors import UnavailableError

_LIMIT_S = 10.0


@asynccontextmanager
async def running(look: Callable[[bool], Awaitable[None]], all_every_s: float = 60.0) -> AsyncIterator[Look]:
    looking = Look(look, Setback("looking"), all_every_s)
    task = asyncio.create_task(looking.run())
    try:
        async with asyncio.timeout(_LIMIT_S):
            yield looking
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Seen:
    """Looks that were taken; each says whether it was at everything."""

    def __init__(self) -> None:
        self.looks: list[bool] = []
        self._more = asyncio.Event()

    async def __call__(self, at_all: bool) -> None:
        self.looks.append(at_all)
        self._more.set()

    async def until(self, count: int) -> None:
        while len(self.looks) < count:
            self._more.clear()
            await self._more.wait()


async def test_nobody_asks_and_nothing_is_looked_at() -> None:
    seen = Seen()
    async with running(seen):
        await asyncio.sleep(0.05)
    assert seen.looks == []


async def test_many_who_ask_share_a_look() -> None:
    seen, began, go_on = Seen(), asyncio.Event(), asyncio.Event()

    async def look(at_all: bool) -> None:
        await seen(at_all)
        began.set()
        await go_on.wait()

    async with running(look) as looking:
        looking.ask()
        await began.wait()
        for _ in range(100):
            looking.ask()
        go_on.set()
        await seen.until(2)
        await asyncio.sleep(0.05)
    assert seen.looks == [False, False]


async def test_changes_never_put_off_the_look_at_everything() -> None:
    seen = Seen()
    async with running(seen, all_every_s=0.2) as looking:

        async def change() -> None:
            while True:
                looking.ask()
                await asyncio.sleep(0.005)

        changing = asyncio.create_task(change())
        try:
            while sum(seen.looks) < 2:
                await seen.until(len(seen.looks) + 1)
        finally:
            changing.cancel()
    assert 2 <= sum(seen.looks) < len(seen.looks)


async def test_a_look_at_everything_may_be_asked_for() -> None:
    seen = Seen()
    async with running(seen) as looking:
        looking.ask_for_all()
        await seen.until(1)
        looking.ask_urgently()
        await seen.until(2)
    assert seen.looks == [True, False]


async def test_a_fault_is_told_once_and_what_was_asked_is_looked_at_again(caplog: pytest.LogCaptureFixture) -> None:
    seen, faults = Seen(), 3

    async def look(at_all: bool) -> None:
        await seen(at_all)
        if len(seen.looks) == 1:
            raise UnavailableError("the database is away")
        if len(seen.looks) <= faults:
            raise RuntimeError("a bug")

    with caplog.at_level(logging.WARNING):
        async with running(look) as looking:
            looking.ask_for_all()
            await seen.until(faults + 1)
            looking.ask_urgently()
            await seen.until(faults + 2)
    assert seen.looks == [True] * (faults + 1) + [False]
    assert len(caplog.records) == 2  # the fault, and its end


async def test_a_fault_ends_with_the_wait_that_met_it() -> None:
    """The next one is told, although nobody waited long enough to see this one end."""
    told = asyncio.Event()
    health = Health()

    async def fails(_at_all: bool) -> None:
        raise UnavailableError("the database has gone")

    looking = Look(fails, Setback("looking", health))
    task = asyncio.create_task(looking.run())
    health.changed = lambda _well: told.set()
    looking.ask()
    async with asyncio.timeout(_LIMIT_S):
        await told.wait()
    assert health.faults
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert health.well
