"""The queue of attempts that wait for a worker: most urgent first, then in the order of their assignment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ripieno.agent.attempts.attempt import Attempt


class Waiting(deque[Attempt]):
    """The attempts in hand that were not sent to a worker. Only ``add`` may append to it."""

    def add(self, attempt: Attempt) -> None:
        """Insert an attempt behind all that are at least as urgent."""
        priority = attempt.options.priority
        if not self or self[-1].options.priority >= priority:
            self.append(attempt)
            return
        index = len(self) - 1
        while index and self[index - 1].options.priority < priority:
            index -= 1
        self.insert(index, attempt)

    def put_back(self, attempts: Iterable[Attempt]) -> None:
        """Return attempts that were taken out, in their order, before others of equal urgency."""
        others = list(self)
        self.clear()
        for attempt in [*attempts, *others]:
            self.add(attempt)

    def drop_over(self) -> None:
        """Remove attempts that are over."""
        left = [attempt for attempt in self if not attempt.over]
        self.clear()
        self.extend(left)
