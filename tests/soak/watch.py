"""What is watched during a soak: the memory of each process, and the log lines."""

import asyncio
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from soak.stage import Stage

_EVERY_S = 1.0
_MIB = 1 << 20
#: SOAK-5.
_GROWTH_MIB = 64
_SURGE_MIB = 100
#: SOAK-6: lines of one second are as far apart as clocks tell.
_ONCE_S = 0.9
_AT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d[.,]\d+)")
_LEVEL = re.compile(r"\b(warning|error|critical)\b", re.IGNORECASE)


class Sample(NamedTuple):
    """Memory of one process at one moment."""

    at: float
    mib: float


class MemoryWatch:
    """Samples the resident memory of each process of the cluster."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            now = time.monotonic()
            for role, processes in self._stage.everybody().items():
                for process in processes:
                    with suppress(psutil.Error):
                        mib = process.memory_info().rss / _MIB
                        self._samples[role, process.pid].append(Sample(now, mib))
            await asyncio.sleep(_EVERY_S)

    def now(self) -> str:
        """The memory of the replicas and agents as it is, for people."""
        latest = {role: samples[-1] for (role, _), samples in self._samples.items() if not role.startswith("workers")}
        return ", ".join(f"{role} {sample.mib:.0f}" for role, sample in latest.items()) + " MiB"

    def verdict(self, quiet_until: float, quiet_from: float) -> tuple[list[str], list[str]]:
        """What was seen of each process, and what breaks SOAK-5.

        Args:
            quiet_until: End of the first quiet window.
            quiet_from: Begin of the last one. Processes that were not there in both are judged by
                their own first and last 15 samples.
        """
        seen, broken = [], []
        for (role, pid), samples in sorted(self._samples.items()):
            if len(samples) < 40:
                continue
            first = [s.mib for s in samples if s.at <= quiet_until] or [s.mib for s in samples[10:25]]
            last = [s.mib for s in samples if s.at >= quiet_from] or [s.mib for s in samples[-15:]]
            before, after = statistics.median(first), statistics.median(last)
            most = max(s.mib for s in samples)
            line = f"{role} ({pid}): {before:.0f} MiB at first, {after:.0f} at last, {most:.0f} at most"
            seen.append(line)
            if after - before > _GROWTH_MIB or most - before > _SURGE_MIB:
                broken.append(f"SOAK-5 {line}")
        return seen, broken


def noisy_lines(logs: Iterable[Path]) -> list[str]:
    """Warnings and errors that one process logged twice within a second (SOAK-6), a line for each kind."""
    noisy: dict[tuple[str, str], int] = defaultdict(int)
    for log in logs:
        last: dict[str, float] = {}
        for line in log.read_text(errors="replace").splitlines():
            if (at := _AT.search(line)) is None or _LEVEL.search(line) is None:
                continue
            moment = datetime.fromisoformat(f"{at[1]}T{at[2].replace(',', '.')}").timestamp()
            kind = re.sub(r"[0-9a-f]{8,}|\d+", "#", line[at.end() :])
            if moment - last.get(kind, 0.0) < _ONCE_S:
                noisy[log.name, kind.strip()] += 1
            last[kind] = moment
    return [f"SOAK-6 {name}, {times} times too soon: {kind[:200]}" for (name, kind), times in noisy.items()]
