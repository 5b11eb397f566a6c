"""Loops in the background: due time, faults told once, pauses, lateness."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from ripieno.background import Health, Loop, Setback, persist
from ripieno.domain.errors import InvalidRequestError, UnavailableError


async def run_until(loop: Loop, done: asyncio.Event) -> None:
    """Run a loop until its turns set the event, for at most some seconds."""
    task = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(5):
            await done.wait()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def failing(times: int, error: Exception, done: asyncio.Event) -> tuple[list[float], Callable[[], object]]:
    """A turn that fails so many times, and then says that it is done."""
    began: list[float] = []

    async def turn() -> None:
        began.append(time.monotonic())
        if len(began) <= times:
            raise error
        done.set()

    return began, turn


async def test_a_due_turn_is_not_put_off_by_those_that_are_asked_for() -> None:
    done, due = asyncio.Event(), 0

    async def turn() -> None:
        nonlocal due
        due += loop.due
        if due == 3:
            done.set()

    loop = Loop("test", turn, every_s=0.1)

    async def traffic() -> None:
        while True:
            loop.wake()
            await asyncio.sleep(0.005)

    noise = asyncio.create_task(traffic())
    began = time.monotonic()
    await run_until(loop, done)
    noise.cancel()
    assert time.monotonic() - began < 2


async def test_a_fault_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    done = asyncio.Event()
    told: list[bool] = []
    health = Health(told.append)
    began, turn = failing(4, UnavailableError("gone"), done)
    with caplog.at_level(logging.INFO, "ripieno.background"):
        loop = Loop("the test", turn, every_s=0.05, health=health)  # type: ignore[arg-type]
        await run_until(loop, done)
        await asyncio.sleep(0)
    assert [record.message.split(" after ")[0] for record in caplog.records] == [
        "the test does not work, and is tried again until it does: gone",
        "the test works again",
    ]
    assert told == [False, True]
    assert health.well
    assert len(began) == 5


async def test_a_bug_is_told_with_its_story_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    done = asyncio.Event()
    _, turn = failing(2, ZeroDivisionError("oops"), done)
    await run_until(Loop("the test", turn, every_s=0.01), done)  # type: ignore[arg-type]
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.exc_info is not None


async def test_asking_does_not_shorten_the_pause_after_a_fault() -> None:
    done = asyncio.Event()
    began, turn = failing(3, UnavailableError("gone"), done)
    loop = Loop("test", turn, every_s=60, at_once=True)  # type: ignore[arg-type]

    async def traffic() -> None:
        while True:
            loop.wake()
            await asyncio.sleep(0.001)

    noise = asyncio.create_task(traffic())
    await run_until(loop, done)
    noise.cancel()
    assert began[3] - began[0] > 0.05 + 0.1 + 0.2 - 0.01


async def test_a_loop_that_was_held_up_says_by_how_much() -> None:
    done = asyncio.Event()
    late: list[float] = []

    async def turn() -> None:
        late.append(loop.late_s)
        if len(late) == 1:
            asyncio.get_running_loop().call_soon(time.sleep, 0.4)  # the event loop is held up
        if len(late) == 3:
            done.set()

    loop = Loop("test", turn, every_s=0.05)
    await run_until(loop, done)
    assert late[0] < 0.3 < late[1]
    assert late[2] < 0.3


async def test_work_that_has_to_be_done_is_done_when_it_can_be() -> None:
    done = asyncio.Event()
    health = Health()
    began, turn = failing(2, UnavailableError("gone"), done)
    await persist("test", turn, health)  # type: ignore[arg-type]
    assert len(began) == 3
    assert health.well


async def test_work_that_cannot_be_done_is_given_up_at_once() -> None:
    began, turn = failing(2, InvalidRequestError("field", "is wrong"), asyncio.Event())
    with pytest.raises(InvalidRequestError):
        await persist("test", turn)  # type: ignore[arg-type]
    assert len(began) == 1


def test_pauses_grow_to_a_bound_and_begin_small_again() -> None:
    setback = Setback("test", first_pause_s=1, longest_pause_s=4)
    pauses = [setback.note(UnavailableError("gone")) for _ in range(5)]
    assert all(low / 2 <= pause <= low for pause, low in zip(pauses, (1, 2, 4, 4, 4), strict=True))
    setback.over()
    assert setback.note(UnavailableError("gone")) <= 1


def test_a_process_is_well_once_every_part_is() -> None:
    told: list[bool] = []
    health = Health(told.append)
    health.fault("a", UnavailableError("x"))
    health.fault("b", UnavailableError("y"))
    health.works("a")
    assert health.faults == {"b": "y"}
    assert told == [False]
    health.works("b")
    assert told == [False, True]


def test_many_that_fail_by_one_fault_tell_of_it_once(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    several = [Setback("commits", health) for _ in range(100)]
    with caplog.at_level(logging.INFO, "ripieno.background"):
        for setback in several:
            setback.note(UnavailableError("gone"))
        for setback in several:
            setback.over()
        for setback in several:  # it comes and goes
            setback.note(UnavailableError("gone"))
            setback.over()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert health.well
