"""How busy the processors of this machine are, for work that can wait until there is time."""

import time
from pathlib import Path

_STATISTICS = Path("/proc/stat")

#: Linux counts in hundredths of a second; a shorter time says little.
_LEAST_S = 0.2

#: With less of their time in use others do not wait for it.
_SPARE = 0.7


class Processors:
    """The processors of this machine, all together. On a system that is not Linux they are never seen busy.

    Attributes:
        busy: The part of their time in which they were not idle lately, from 0 to 1.
    """

    def __init__(self, statistics: Path = _STATISTICS) -> None:
        self.busy = 0.0
        self._statistics = statistics
        self._looked_at = time.monotonic()
        self._idle, self._all = self._read()

    @property
    def lack(self) -> float:
        """How much they lack time to spare: 0 up to 70 % of it in use, 1 where they are never idle."""
        return max(0.0, self.look() - _SPARE) / (1 - _SPARE)

    def look(self) -> float:
        """Look again, if the last time is long enough ago; return ``busy``."""
        now = time.monotonic()
        if now - self._looked_at >= _LEAST_S:
            idle, total = self._read()
            if total > self._all:
                self.busy = 1.0 - (idle - self._idle) / (total - self._all)
            self._looked_at, self._idle, self._all = now, idle, total
        return self.busy

    def _read(self) -> tuple[int, int]:
        """Idle time and all time since the machine has started."""
        try:
            with self._statistics.open() as file:
                # user nice system idle iowait irq softirq steal; guests count as user already (man 5 proc_stat).
                times = [int(word) for word in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        return sum(times[3:5]), sum(times)
