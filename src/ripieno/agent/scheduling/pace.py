"""How much work to hold: pure arithmetic on what was seen of attempts so far.

* ``window``: how many attempts may be in one worker's inbox, the running one included.
  About 5 ms of work beyond it for a worker that takes attempts ahead, one that does not
  gets one at a time.
* ``wanted``: how many attempts the agent wants to hold or be owed in all: the windows, and
  about 10 ms of work for its slots waiting.
* ``due``: whether a running attempt is about to end, where run times are regular. The next one is
  fetched for it, and put behind it, just then: not so early that it waits for long, and early
  enough that the worker goes on at once.
* ``patience_s``: when every worker has been busy for longer, nothing is kept waiting and
  nothing is owed.

Before any run time was seen, and while attempts are long, there is one attempt a slot:
another agent, or a more urgent task, may make better use of the time that it would wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Work kept in a worker's inbox beyond the running attempt.
LOOKAHEAD_S = 0.005
MAX_LOOKAHEAD = 256
#: Work kept waiting in the agent, which bridges a claim's round trip.
STOCK_S = 0.010
MAX_STOCK = 1_024
#: Attempts that run longer are claimed only when a slot is free for them, and no patience is
#: longer. Below, a claim's round trip (3 ms) would cost a slot more than one percent of its time.
LONG_S = 0.3
#: Attempts that run for less are never a reason to give others back.
SHORT_S = 0.005
#: The same for a worker that is heard of in batches.
SHORT_AHEAD_S = 0.020
#: Bounds on inline data held for attempts that do not run yet.
STOCK_BYTES = 16 * 1024 * 1024
LOOKAHEAD_BYTES = 1024 * 1024

#: One slow attempt among quick ones must not empty the stock (the sweep deals with what
#: waits behind it), so the mean follows quick ones sooner than slow ones.
_FASTER_WEIGHT = 0.4
_SLOWER_WEIGHT = 0.1
#: One very long attempt is forgotten after about ten quick ones.
_LONGEST_S = 1.0
_BYTES_WEIGHT = 0.1

#: An attempt is due from so long before the mean run time until as long after it; a claim's way
#: takes 4 ms, and 30 when as many slots as that end at once.
LEAD_S = 0.05
#: Shorter ones are sent ahead anyway.
_DUE_FROM_S = 0.02
#: Run times are regular while they differ from their mean by no more than this share of it.
_REGULAR = 0.2
_SPREAD_WEIGHT = 0.2


@dataclass(slots=True)
class Pace:
    """What was learned of run times and sizes.

    Attributes:
        run_s: Mean run time of an attempt; 0 as long as nothing was seen.
        mean_bytes: Mean size of an assignment's data.
        spread_s: Mean difference of run times from their mean.
    """

    run_s: float = 0.0
    mean_bytes: float = 0.0
    spread_s: float = 0.0

    def ran(self, busy_s: float, attempts: int) -> None:
        """``attempts`` ended on one worker within ``busy_s`` of work."""
        sample = min(busy_s / attempts, _LONGEST_S)
        if not self.run_s:
            self.run_s = self.spread_s = max(sample, 1e-6)
            return
        self.spread_s += (abs(sample - self.run_s) - self.spread_s) * _SPREAD_WEIGHT
        weight = _FASTER_WEIGHT if sample < self.run_s else _SLOWER_WEIGHT
        self.run_s = max(self.run_s + (sample - self.run_s) * weight, 1e-6)

    def runs(self, running_s: float) -> None:
        """Every slot's attempt has been running for at least so long."""
        if running_s > LONG_S:
            self.run_s = max(self.run_s, min(running_s, _LONGEST_S))

    def sized(self, size: int, attempts: int) -> None:
        """``attempts`` arrived with ``size`` bytes of data, whether inline or stored."""
        self.mean_bytes += (size / attempts - self.mean_bytes) * _BYTES_WEIGHT

    def window(self, ahead: bool) -> int:
        """How many attempts one worker's inbox may hold."""
        if not ahead or self._hand_to_mouth:
            return 1
        lookahead = min(int(LOOKAHEAD_S / self.run_s), MAX_LOOKAHEAD, self._fitting(LOOKAHEAD_BYTES))
        return 1 + max(lookahead, 1)

    def wanted(self, slots: int, windows: int, due: int = 0) -> int:
        """How many attempts to hold or be owed.

        Args:
            slots: Those that serve.
            windows: The sum of their windows.
            due: How many of them are about to be free.
        """
        if not slots:
            return 0
        if self._hand_to_mouth:
            return slots + due
        stock = min(math.ceil(slots * STOCK_S / self.run_s), MAX_STOCK)
        return max(min(windows + stock + due, self._fitting(STOCK_BYTES)), slots)

    def due(self, running_s: float) -> bool:
        """Whether an attempt that has been running for so long is about to end."""
        return (
            self.run_s > _DUE_FROM_S
            and self.spread_s <= _REGULAR * self.run_s
            and abs(running_s - self.run_s) <= LEAD_S
        )

    def patience_s(self, ahead: bool) -> float:
        """How long an attempt may run before others are not kept waiting behind it.

        A worker that takes attempts ahead is heard of in batches, so how long its present
        attempt has been running is a guess; of the others it is known.
        """
        return min(max(SHORT_AHEAD_S if ahead else SHORT_S, 3 * self.run_s), LONG_S)

    @property
    def _hand_to_mouth(self) -> bool:
        return not self.run_s or self.run_s > LONG_S

    def _fitting(self, budget_bytes: int) -> int:
        return int(budget_bytes / self.mean_bytes) if self.mean_bytes > 1 else budget_bytes
