"""How busy the processors of this machine are, for work that can wait until they have time to spare."""

import time
from pathlib import Path

_STATISTICS = Path("/proc/stat")

#: Shortest time between two readings: Linux counts in hundredths of a second, so a shorter one says little.
_LEAST_S = 0.2

#: While a smaller share of the processors' time than this is in use, other work does not wait for them.
_SPARE = 0.7


class Processors:
    """The load of this machine's processors, all together; always 0 on a system that is not Linux.

    Args:
        statistics: The file of the kernel's counters, in the format of ``/proc/stat``.

    Attributes:
        busy: Share of the processors' time in which they were not idle, from 0 to 1, as of the last ``look``.
    """

    def __init__(self, statistics: Path = _STATISTICS) -> None:
        self.busy = 0.0
        self._statistics = statistics
        self._looked_at = time.monotonic()
        self._idle, self._all = self._read()

    @property
    def lack(self) -> float:
        """The lack of spare processor time: 0 while up to 70 % of the time is in use, 1 if never idle."""
        return max(0.0, self.look() - _SPARE) / (1 - _SPARE)

    def look(self) -> float:
        """Read the counters again if the last reading is at least 0.2 s old; return ``busy``."""
        now = time.monotonic()
        if now - self._looked_at >= _LEAST_S:
            idle, total = self._read()
            if total > self._all:
                self.busy = 1.0 - (idle - self._idle) / (total - self._all)
            self._looked_at, self._idle, self._all = now, idle, total
        return self.busy

    def _read(self) -> tuple[int, int]:
        """Return the idle time and all time since the machine started, in the kernel's ticks; zeros if unreadable."""
        try:
            with self._statistics.open() as file:
                # user nice system idle iowait irq softirq steal; guests count as user already (man 5 proc_stat).
                times = [int(word) for word in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        return sum(times[3:5]), sum(times)
