"""Steps that have a session for themselves leave time to others, and are as long as they may be."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from ripieno.domain.errors import UnavailableError
from ripieno.processors import Processors
from ripieno.store.database.turns import _LARGEST, _LONGEST_PAUSE_S, _SMALLEST, STEP_S, Turns


class _Busy(Processors):
    def __init__(self, lack: float) -> None:
        self._lack = lack

    @property
    def lack(self) -> float:
        return self._lack


class _Steps:
    """In place of a database: each step takes so long; notes when they begin and end."""

    def __init__(self, took_s: float) -> None:
        self.took_s = took_s
        self.began: list[float] = []
        self.ended: list[float] = []

    async def transaction(self, *_: Any, **__: Any) -> None:
        assert len(self.began) == len(self.ended), "one step at a time"
        self.began.append(time.monotonic())
        await asyncio.sleep(self.took_s)
        self.ended.append(time.monotonic())

    @property
    def pause_s(self) -> float:
        return self.began[1] - self.ended[0]


async def _two_steps(lack: float, took_s: float) -> _Steps:
    turns, steps = Turns(_Busy(lack)), _Steps(took_s)
    await turns.take(steps, [1], steps.transaction)  # type: ignore[arg-type]
    await turns.take(steps, [1], steps.transaction, goes_on=True)  # type: ignore[arg-type]
    return steps


@pytest.mark.parametrize(("lack", "times"), [(0.0, 1.0), (1.0, 12.0)])
async def test_a_pause_is_as_long_as_the_step_and_longer_where_processors_are_busy(lack: float, times: float) -> None:
    steps = await _two_steps(lack, 0.03)
    assert steps.pause_s >= times * 0.03 - 0.002


async def test_no_pause_is_long() -> None:
    steps = await _two_steps(1.0, 0.4)
    assert _LONGEST_PAUSE_S - 0.002 <= steps.pause_s < 1.2


async def test_a_first_step_does_not_wait_until_long_work_goes_on() -> None:
    turns, steps = Turns(_Busy(1.0)), _Steps(0.03)
    await turns.take(steps, [1], steps.transaction)  # type: ignore[arg-type]
    long = asyncio.create_task(turns.take(steps, [1], steps.transaction, goes_on=True))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await turns.take(steps, [2], steps.transaction)  # type: ignore[arg-type]
    assert not long.done()
    assert steps.pause_s < 6 * 0.03
    await long
    assert steps.began[2] - steps.ended[0] >= 12 * 0.03 - 0.002


async def test_long_work_whose_gate_is_held_does_not_keep_other_long_work_waiting() -> None:
    turns, steps, held = Turns(_Busy(0.0)), _Steps(0.0), asyncio.Event()

    class Gate(_Steps):
        async def transaction(self, *_: Any, **__: Any) -> None:
            if not held.is_set():
                raise UnavailableError("somebody is in the session") from asyncpg.LockNotAvailableError()

    gate = Gate(0.0)
    waiting = asyncio.create_task(turns.take(gate, [1], gate.transaction, goes_on=True))  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
        for _ in range(3):
            await turns.take(steps, [2], steps.transaction, goes_on=True)  # type: ignore[arg-type]
    assert not waiting.done()
    held.set()
    async with asyncio.timeout(5):
        await waiting


@pytest.mark.parametrize(("took_s", "size"), [(2 * STEP_S, _SMALLEST), (0.0, _LARGEST)])
async def test_the_size_of_steps_follows_their_time_within_bounds(
    took_s: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ripieno.store.database.turns._LONGEST_PAUSE_S", 0.0)
    turns, steps = Turns(_Busy(0.0)), _Steps(took_s)
    for _ in range(12):
        await turns.take(steps, [1], steps.transaction)  # type: ignore[arg-type]
    assert turns.size == size
