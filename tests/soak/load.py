"""The load: jobs at a steady rate, and a lone task every 100 ms whose time is taken."""

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable
from typing import NamedTuple

from ripieno.client import AsyncSession
from soak.jobs import MIX, Job, Place

#: Of what the cluster can do.
SHARE = 0.7
_PROBE_EVERY_S = 0.1
#: While the cluster is away jobs wait; more than so many are not begun.
_MOST_AT_ONCE = 60
_MOST_PROBES = 400


class Latencies(NamedTuple):
    """Times of lone tasks that began within some window, in seconds."""

    taken: list[float]

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.taken) if self.taken else float("nan")

    @property
    def p99(self) -> float:
        """What one in a hundred exceeds."""
        ordered = sorted(self.taken)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else float("nan")


class Load:
    """Runs jobs until it is stopped, and remembers what went wrong."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        self._place = place
        self._chance = chance
        self._probes: list[tuple[float, float]] = []
        self._running: set[asyncio.Task[None]] = set()
        self.began = Counter[str]()
        self.ended = Counter[str]()
        self.broken: list[str] = []

    async def capacity(self, seconds: float, at_once: int = 8) -> float:
        """Jobs a second that the cluster can do: so many at once, each followed by another."""
        until, done = time.monotonic() + seconds, 0

        async def one_after_the_other() -> None:
            nonlocal done
            while time.monotonic() < until:
                await self._job(self._draw())
                done += 1

        began = time.monotonic()
        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
        return done / (time.monotonic() - began)

    async def run(self, jobs_per_s: float) -> None:
        """Begin jobs at that rate, and probe, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._begin_jobs(jobs_per_s))
            group.create_task(self._probe())

    async def finish(self, within_s: float) -> None:
        """Let what was begun end."""
        if self._running:
            _, left = await asyncio.wait(self._running, timeout=within_s)
            self.broken += [f"{task.get_name()} has not ended" for task in left]
            for task in left:
                task.cancel()

    def since(self, began: float, until: float = float("inf")) -> Latencies:
        """Lone tasks that began in that window of the monotonic clock."""
        return Latencies([taken for at, taken in self._probes if began <= at < until])

    def _draw(self) -> Job:
        return self._chance.choices(list(MIX), list(MIX.values()))[0]

    async def _begin_jobs(self, jobs_per_s: float) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(jobs_per_s))
            if self._count("a job") < _MOST_AT_ONCE:
                self._start(self._job(self._draw()), "a job")

    async def _probe(self) -> None:
        session = await self._place.session()
        while True:
            await asyncio.sleep(_PROBE_EVERY_S)
            if self._count("a lone task") < _MOST_PROBES:
                self._start(self._lone(session), "a lone task")

    def _count(self, name: str) -> int:
        return sum(task.get_name() == name for task in self._running)

    def _start(self, work: Awaitable[None], name: str) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - whatever it is belongs into the verdict
                self.broken.append(f"{name}: {type(error).__name__}: {error}")

        task = asyncio.get_running_loop().create_task(guarded(), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _job(self, job: Job) -> None:
        name = job.__name__
        self.began[name] += 1
        try:
            await job(self._place)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs into the verdict
            self.broken.append(f"{name}: {type(error).__name__}: {error}")
        else:
            self.ended[name] += 1

    async def _lone(self, session: AsyncSession) -> None:
        began = time.monotonic()
        await (await session.submit(b"echo alone")).result(timeout=300)
        self._probes.append((began, time.monotonic() - began))
