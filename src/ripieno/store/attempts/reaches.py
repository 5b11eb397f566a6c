"""How far the claims of each partition have come, for when the way there is long.

A claim goes through the claimable tasks from the most urgent one on. What was claimed before lies dead
at the head of that index until vacuum removes it, which vacuum may not do while somebody holds an old
snapshot of the database (a dump, a forgotten transaction): each claim walks over all that was done since.

So a claim that took long goes on from where it ended, for a multiple of the time that it took; then one goes
from the beginning again, and finds what has become claimable behind the others meanwhile (a retry, a
dependent). What is more urgent is found by all. Only large claims that come back full do so: a task that
nobody is before is never passed over.
"""

import time
from collections import OrderedDict
from typing import NamedTuple

#: A claim from the beginning that takes less is not worth saving.
_LONG_S = 0.01

#: Fewer tasks are claimed from the beginning.
_LARGE = 16

#: After a claim from the beginning the others go onward for so many times what it took, but no longer than so long.
_ONWARD = 20
_LONGEST_ONWARD_S = 2.0

#: When going onward did not save half, it is not tried again for this long.
_IN_VAIN_S = 10.0

#: Partitions that are remembered.
_REMEMBERED = 1_000


class Reach(NamedTuple):
    """Where a claim from the beginning ended.

    Attributes:
        took_s: What it took.
        until: When to begin from the beginning again (monotonic clock).
    """

    priority: int
    task_no: int
    took_s: float
    until: float


class Reaches:
    """Of the partitions of one replica."""

    def __init__(self) -> None:
        self._reached: OrderedDict[str, Reach] = OrderedDict()
        self._in_vain_until = 0.0

    def clear(self) -> None:
        """Forget all: it was another incarnation of the database."""
        self._reached.clear()

    def of(self, partition: str, asked: int) -> Reach | None:
        """Where a claim of so many tasks may begin; None: at the beginning."""
        reach = self._reached.get(partition)
        return reach if reach is not None and asked >= _LARGE and time.monotonic() < reach.until else None

    def began(self, partition: str, asked: int, last: tuple[int, int] | None, took_s: float) -> None:
        """A claim went from the beginning to ``last`` (priority, number); None: it has found fewer than asked."""
        now = time.monotonic()
        self._reached.pop(partition, None)
        if last is not None and asked >= _LARGE and took_s > _LONG_S and now > self._in_vain_until:
            self._reached[partition] = Reach(*last, took_s, now + min(_ONWARD * took_s, _LONGEST_ONWARD_S))
            if len(self._reached) > _REMEMBERED:
                self._reached.popitem(last=False)

    def went_on(self, partition: str, reach: Reach, last: tuple[int, int] | None, took_s: float) -> None:
        """A claim went from ``reach`` to ``last``."""
        if self._reached.get(partition) is not reach:
            return
        if took_s > reach.took_s / 2:
            self._in_vain_until = time.monotonic() + _IN_VAIN_S
        if last is None or took_s > reach.took_s / 2:
            del self._reached[partition]
        elif last[0] == reach.priority:
            self._reached[partition] = reach._replace(task_no=last[1])
