"""One soak: quiet, fault, quiet, fault..., and what came of it."""

import asyncio
import random
import time
from pathlib import Path
from typing import NamedTuple

from ripieno.client import AsyncClient
from soak.faults import Fault, faults
from soak.jobs import Place
from soak.load import SHARE, Load
from soak.stage import Stage
from soak.watch import MemoryWatch, noisy_lines

_CALIBRATION_S = 20.0
_QUIET_S = 15.0
#: SOAK-4.
_BACK_WITHIN_S = 15.0
_BACK_P50_S = 0.5
_RECENTLY_S = 2.5
_ENOUGH = 10
#: SOAK-3.
_ADDED_S = 0.1
_FINISH_S = 240.0

_LOST = "select count(*) from earlier_attempts where detail like '%lost%'"


class Window(NamedTuple):
    """What lone tasks took while something went on, in milliseconds."""

    name: str
    p50_ms: float
    p99_ms: float
    tasks: int

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.name:<34} lone task p50 {self.p50_ms:7.1f} ms, p99 {self.p99_ms:8.1f} ms ({self.tasks})"


class Soak:
    """Runs a soak on a cluster that serves."""

    def __init__(self, stage: Stage, place: Path, chance: random.Random) -> None:
        self._stage = stage
        self._chance = chance
        self._marks = place / "marks"
        self._marks.mkdir(mode=0o777)
        self._memory = MemoryWatch(stage)
        self._broken: list[str] = []

    async def run(self, seconds: float, only: str) -> list[str]:
        """Soak for so long; return the promises that were broken."""
        ends_at = time.monotonic() + seconds
        memory = self._memory
        async with AsyncClient(f"{self._stage.up.address}", patience=600) as client:
            load = Load(Place(client, self._marks), self._chance)
            rate = SHARE * await load.capacity(_CALIBRATION_S)
            _say(f"load: {rate:.1f} jobs a second, {SHARE:.0%} of what the cluster can do")
            background = [asyncio.create_task(load.run(rate)), asyncio.create_task(memory.run())]
            await self._quiet(load, "at first")
            first_quiet = time.monotonic()
            for fault in self._order(only):
                if time.monotonic() + 60 > ends_at:
                    _say(f"no time left for: {fault.name}")
                    continue
                await self._suffer(load, fault)
            last_quiet = time.monotonic()
            await self._quiet(load, "at last")
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await load.finish(_FINISH_S)
        seen, grown = memory.verdict(first_quiet, last_quiet)
        for line in seen:
            _say(line)
        _say(f"jobs ended as they must: {dict(load.ended)} of {dict(load.began)}")
        noisy = noisy_lines(sorted((self._stage.data / "logs").glob("*.log")))
        return [*self._broken, *(f"SOAK-1 {line}" for line in load.broken), *grown, *noisy]

    def _order(self, only: str) -> list[Fault]:
        chosen = [fault for fault in faults(self._stage) if only in fault.name]
        if self._stage.disk is None:
            _say("left out: disk full (a small file system of its own needs root)")
        self._chance.shuffle(chosen)
        return chosen

    async def _quiet(self, load: Load, name: str) -> Window:
        began = time.monotonic()
        await asyncio.sleep(_QUIET_S)
        window = _window(f"quiet {name}", load, began, time.monotonic())
        _say(f"{window}; {self._memory.now()}")
        return window

    async def _suffer(self, load: Load, fault: Fault) -> None:
        before = await self._quiet(load, f"before {fault.name}"[:28])
        lost = await self._lost_attempts()
        began = time.monotonic()

        def begins() -> None:
            nonlocal began
            began = time.monotonic()

        try:
            async with asyncio.timeout(300):
                await fault.happens(self._stage, begins)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs into the verdict
            self._broken.append(f"{fault.name}: {type(error).__name__}: {error}")
        ended = time.monotonic()
        during = _window(fault.name, load, began, ended)
        back_s = await self._back(load)
        _say(f"{during}; took {ended - began:.1f} s, quick again after {back_s:.1f} s")
        if back_s > _BACK_WITHIN_S:
            self._broken.append(f"SOAK-4 {fault.name}: a lone task needed {back_s:.1f} s to get through afterwards")
        allowed_ms = 2 * before.p99_ms + 1000 * _ADDED_S
        if fault.of_one_caller and not during.p99_ms <= allowed_ms:
            self._broken.append(f"SOAK-3 {fault.name}: others' p99 {during.p99_ms:.0f} ms, allowed {allowed_ms:.0f} ms")
        if fault.spares_attempts and (more := await self._lost_attempts() - lost):
            self._broken.append(f"SOAK-2 {fault.name}: cost {more} attempts")

    async def _back(self, load: Load) -> float:
        """Seconds until lone tasks are quick again."""
        began = time.monotonic()
        while time.monotonic() - began < 4 * _BACK_WITHIN_S:
            await asyncio.sleep(0.5)
            recent = load.since(max(began, time.monotonic() - _RECENTLY_S))
            if len(recent.taken) >= _ENOUGH and recent.p50 < _BACK_P50_S:
                break
        return time.monotonic() - began

    async def _lost_attempts(self) -> int:
        async with self._stage.connection() as connection:
            lost: int = await connection.fetchval(_LOST)
            return lost


def _window(name: str, load: Load, began: float, ended: float) -> Window:
    seen = load.since(began, ended)
    return Window(name, 1000 * seen.p50, 1000 * seen.p99, len(seen.taken))


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
