"""How much work to hold: pure arithmetic on the run times and sizes of attempts so far.

* ``window``: how many attempts may be in one worker's inbox, the running one included.
  A worker that takes attempts ahead gets about 5 ms of work beyond the running attempt, any
  other worker one attempt at a time.
* ``wanted``: how many attempts the agent wants to hold or be owed in all: the windows, plus
  about 10 ms of waiting work for its slots.
* ``due``: whether a running attempt is about to end, where run times are regular. The next one is
  fetched and put behind it just then: not so early that it waits for long, and early enough that
  the worker goes on at once.
* ``patience_s``: when every worker has been busy for longer, nothing is kept waiting and
  nothing is owed.

Before any run time was seen, and while attempts are long, each slot has one attempt:
another agent, or a more urgent task, may make better use of the time that a second one would wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Seconds of work, and most attempts, kept in a worker's inbox beyond the running attempt.
LOOKAHEAD_S = 0.005
MAX_LOOKAHEAD = 256
#: Seconds of work, and most attempts, kept waiting in the agent to bridge a claim's round trip.
STOCK_S = 0.010
MAX_STOCK = 1_024
#: Attempts that run longer than this are claimed only when a slot is free for them, and no patience is
#: longer. For shorter ones a claim's round trip (3 ms) would cost a slot more than one percent of its time.
LONG_S = 0.3
#: Attempts that run for less than this are never a reason to give others back.
SHORT_S = 0.005
#: The same bound for a worker that reports ends in batches.
SHORT_AHEAD_S = 0.020
#: Bounds on inline data held for attempts that do not run yet.
STOCK_BYTES = 16 * 1024 * 1024
LOOKAHEAD_BYTES = 1024 * 1024

#: Weights of a new sample in the mean run time. One slow attempt among quick ones must not empty the stock (the
#: sweep deals with what waits behind it), so the mean follows quick ones sooner than slow ones.
_FASTER_WEIGHT = 0.4
_SLOWER_WEIGHT = 0.1
#: Samples are cut to this, so that one very long attempt is forgotten after about ten quick ones.
_LONGEST_S = 1.0
_BYTES_WEIGHT = 0.1

#: An attempt is due from this long before the mean run time until as long after it. A claim takes
#: 4 ms, and 30 ms when 30 slots end at once.
LEAD_S = 0.05
#: Attempts with a shorter mean run time are never due, since they are sent ahead anyway.
_DUE_FROM_S = 0.02
#: Run times count as regular while their mean difference from the mean is at most this share of it.
_REGULAR = 0.2
_SPREAD_WEIGHT = 0.2


@dataclass(slots=True)
class Pace:
    """Running means of attempts' run times and sizes, and the amounts of work that follow from them.

    Attributes:
        run_s: Mean run time of an attempt in seconds; 0 until one was seen.
        mean_bytes: Mean size of an assignment's data.
        spread_s: Mean difference of run times from their mean, in seconds.
    """

    run_s: float = 0.0
    mean_bytes: float = 0.0
    spread_s: float = 0.0

    def ran(self, busy_s: float, attempts: int) -> None:
        """Learn that ``attempts`` ended on one worker within ``busy_s`` seconds of work."""
        sample = min(busy_s / attempts, _LONGEST_S)
        if not self.run_s:
            self.run_s = self.spread_s = max(sample, 1e-6)
            return
        self.spread_s += (abs(sample - self.run_s) - self.spread_s) * _SPREAD_WEIGHT
        weight = _FASTER_WEIGHT if sample < self.run_s else _SLOWER_WEIGHT
        self.run_s = max(self.run_s + (sample - self.run_s) * weight, 1e-6)

    def runs(self, running_s: float) -> None:
        """Learn that every slot's attempt has been running for at least ``running_s`` seconds.

        That is longer than was thought, so run times are less regular than they seemed: an attempt that goes on is not
        due for having gone on. Otherwise the next task would be taken and given back some 15 times meanwhile.
        """
        longer_s = min(running_s, _LONGEST_S) - self.run_s
        if running_s > LONG_S and longer_s > 0:
            self.run_s += longer_s
            self.spread_s += longer_s

    def sized(self, size: int, attempts: int) -> None:
        """Learn that ``attempts`` arrived with ``size`` bytes of data, whether inline or stored."""
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
            slots: Number of slots that serve.
            windows: Sum of the windows of these slots.
            due: Number of these slots that are about to be free.
        """
        if not slots:
            return 0
        if self._hand_to_mouth:
            return slots + due
        stock = min(math.ceil(slots * STOCK_S / self.run_s), MAX_STOCK)
        return max(min(windows + stock + due, self._fitting(STOCK_BYTES)), slots)

    def due(self, running_s: float) -> bool:
        """Whether an attempt that has been running for ``running_s`` seconds is about to end."""
        return (
            self.run_s > _DUE_FROM_S
            and self.spread_s <= _REGULAR * self.run_s
            and abs(running_s - self.run_s) <= LEAD_S
        )

    def patience_s(self, ahead: bool) -> float:
        """How many seconds an attempt may run before no others are kept waiting behind it.

        A worker that takes attempts ahead reports in batches, so how long its present attempt has
        been running is a guess; of other workers it is known.
        """
        return min(max(SHORT_AHEAD_S if ahead else SHORT_S, 3 * self.run_s), LONG_S)

    @property
    def _hand_to_mouth(self) -> bool:
        return not self.run_s or self.run_s > LONG_S

    def _fitting(self, budget_bytes: int) -> int:
        return int(budget_bytes / self.mean_bytes) if self.mean_bytes > 1 else budget_bytes
