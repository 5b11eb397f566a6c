"""Reaches: how far the claims of each partition have come in the index of claimable tasks.

A claim reads the index of claimable tasks from the most urgent one on. Entries of tasks claimed before stay dead
at the head of that index until vacuum removes them, which it may not do while a session holds an old
snapshot of the database (a dump, a forgotten transaction): each claim reads all entries that died since.

So after a claim that took long, claims go on from where it ended, for a multiple of the time that it took; then one
claim goes from the beginning again, and finds tasks that have become claimable before that place meanwhile (a retry,
a dependent). More urgent tasks are found by all claims. Only large claims that come back full go onward: a task
is passed over only in favour of others.
"""

import time
from collections import OrderedDict
from typing import NamedTuple

#: Claims go onward only after a claim from the beginning that took longer than this.
_LONG_S = 0.01

#: A claim of fewer tasks always goes from the beginning.
_LARGE = 16

#: Claims go onward for this multiple of what the claim from the beginning took, at most ``_LONGEST_ONWARD_S``.
_ONWARD = 20
_LONGEST_ONWARD_S = 2.0

#: If going onward did not save half of the time, it is not tried again for this long.
_IN_VAIN_S = 10.0

#: Partitions whose reaches are remembered.
_REMEMBERED = 1_000


class Reach(NamedTuple):
    """The place where the last full claim ended.

    Attributes:
        priority: Priority of the last task that was claimed.
        task_no: Number of the last task that was claimed.
        took_s: Seconds that the claim from the beginning took.
        until: When to begin from the beginning again (monotonic clock).
    """

    priority: int
    task_no: int
    took_s: float
    until: float


class Reaches:
    """The reaches of one replica, by partition."""

    def __init__(self) -> None:
        self._reached: OrderedDict[str, Reach] = OrderedDict()
        self._in_vain_until = 0.0

    def clear(self) -> None:
        """Forget all reaches, when the database is another incarnation."""
        self._reached.clear()

    def of(self, partition: str, asked: int) -> Reach | None:
        """Return the place from which a claim of ``asked`` tasks may go onward; None to begin at the beginning."""
        reach = self._reached.get(partition)
        return reach if reach is not None and asked >= _LARGE and time.monotonic() < reach.until else None

    def began(self, partition: str, asked: int, last: tuple[int, int] | None, took_s: float) -> None:
        """Note that a claim went from the beginning to ``last`` (priority, number); None if it found too few tasks."""
        now = time.monotonic()
        self._reached.pop(partition, None)
        if last is not None and asked >= _LARGE and took_s > _LONG_S and now > self._in_vain_until:
            self._reached[partition] = Reach(*last, took_s, now + min(_ONWARD * took_s, _LONGEST_ONWARD_S))
            if len(self._reached) > _REMEMBERED:
                self._reached.popitem(last=False)

    def went_on(self, partition: str, reach: Reach, last: tuple[int, int] | None, took_s: float) -> None:
        """Note that a claim went from ``reach`` to ``last`` (priority, number); None if it found too few tasks."""
        if self._reached.get(partition) is not reach:
            return
        if took_s > reach.took_s / 2:
            self._in_vain_until = time.monotonic() + _IN_VAIN_S
        if last is None or took_s > reach.took_s / 2:
            del self._reached[partition]
        elif last[0] == reach.priority:
            self._reached[partition] = reach._replace(task_no=last[1])
