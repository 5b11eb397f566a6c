"""What a cluster's processes take of the machine: private memory and processor time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import psutil

from protocol.cluster import Process

MIB = 1 << 20
_SAMPLE_EVERY_S = 0.1


@dataclass
class Growth:
    """Private memory of each process above what it had at first, in bytes, by a name for people.

    Attributes:
        worst: The largest growth seen so far.
    """

    worst: dict[str, int] = field(default_factory=dict)
    _first: dict[int, int] = field(default_factory=dict)

    def sample(self, process: Process) -> None:
        for each in process.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                size = each.memory_full_info().uss
                grown = size - self._first.setdefault(each.pid, size)
                name = name_of(each)
                self.worst[name] = max(self.worst.get(name, 0), grown)


@contextlib.asynccontextmanager
async def memory_of(*processes: Process) -> AsyncIterator[Growth]:
    """Watch the memory of everything below these processes while the block runs."""
    growth, over = Growth(), asyncio.Event()

    async def watch() -> None:
        while not over.is_set():
            for process in processes:
                growth.sample(process)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SAMPLE_EVERY_S):
                    await over.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        try:
            yield growth
        finally:
            over.set()
    for process in processes:
        growth.sample(process)


async def processor_share(process: Process, seconds: float) -> dict[str, float]:
    """The share of one core that each process below this one takes, measured over ``seconds``."""

    def used() -> dict[str, float]:
        found = {}
        for each in process.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                found[name_of(each)] = times.user + times.system
        return found

    before, began = used(), time.monotonic()
    await asyncio.sleep(seconds)  # What is measured is that nothing happens.
    elapsed = time.monotonic() - began
    return {name: (value - before.get(name, 0.0)) / elapsed for name, value in used().items()}


def name_of(process: psutil.Process) -> str:
    """Its process id and command, short."""
    return f"{process.pid} {' '.join(process.cmdline())[:120]}"
