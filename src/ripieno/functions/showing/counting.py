"""Counting futures that are done, by looking at them now and then: nothing happens for each task."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

#: The rate is that of the last so many seconds.
WINDOW_S = 15.0


@dataclass(frozen=True, slots=True)
class Count:
    """How far futures have come.

    Attributes:
        total: How many there are.
        done: How many have ended, those that failed among them.
        failed: How many have failed or were cancelled.
    """

    total: int
    done: int
    failed: int

    @property
    def is_over(self) -> bool:
        """Whether all have ended."""
        return self.done == self.total


class Counter:
    """Counts futures; those that were done at an earlier look are not looked at again."""

    def __init__(self, futures: Iterable[Future[Any]]) -> None:
        self._left = list(futures)
        self._total = len(self._left)
        self._failed = 0

    def count(self) -> Count:
        """Look at the futures that were not done, and return how far all have come."""
        left = []
        for future in self._left:
            if not future.done():
                left.append(future)
            elif future.cancelled() or future.exception() is not None:
                self._failed += 1
        self._left = left
        return Count(self._total, self._total - len(left), self._failed)


class Pace:
    """How fast things end, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> None:
        """Note how many are done at a time, in seconds of any clock."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW_S:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """How many end in a second; None as long as none has."""
        if not self._seen:
            return None
        (begun, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now - begun) if now > begun and done > before else None

    def left_s(self, count: Count) -> float | None:
        """In how many seconds all have ended if it goes on like this; None where that cannot be told."""
        rate = self.rate
        return None if rate is None else (count.total - count.done) / rate


def rate_in_words(rate: float) -> str:
    """Return a rate for people: ``1,234/s``, ``2.5/s``, ``6.0/min``."""
    if rate >= 10:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


def time_in_words(seconds: float) -> str:
    """Return a length of time for people: ``0:07``, ``1:02:03``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
