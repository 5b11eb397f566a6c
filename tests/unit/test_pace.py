"""Sweeps that delete take steps of a length that suits, and leave time to others."""

import asyncio
import time

import pytest

from ripieno.processors import Processors
from ripieno.store.life.pace import _LARGEST, _SMALLEST, Pace


class _Busy(Processors):
    def __init__(self, lack: float) -> None:
        self._lack = lack

    @property
    def lack(self) -> float:
        return self._lack


async def steps(pace: Pace, count: int, took_s: float) -> float:
    """Take steps of this length; how long it took in all."""

    async def work() -> None:
        await asyncio.sleep(took_s)

    began = time.monotonic()
    for _ in range(count):
        await pace.step(work)
    return time.monotonic() - began


@pytest.mark.parametrize(("lack", "share"), [(0.0, 2), (1.0, 10)])
async def test_most_of_the_time_is_left_to_others_the_more_the_busier_they_are(lack: float, share: int) -> None:
    assert await steps(Pace(_Busy(lack)), 3, 0.02) >= 2 * 0.02 * share


async def test_steps_grow_as_long_as_they_are_quick_and_shrink_where_they_are_slow() -> None:
    pace = Pace(_Busy(0.0))
    await steps(pace, 12, 0.001)
    assert pace.size == _LARGEST
    await steps(pace, 6, 0.1)
    assert pace.size == _SMALLEST


async def test_a_step_that_fails_is_the_callers_to_take_again() -> None:
    pace = Pace(_Busy(0.0))

    async def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await pace.step(fails)
    await steps(pace, 1, 0.001)
