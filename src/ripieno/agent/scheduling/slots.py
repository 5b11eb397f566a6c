"""A worker's place, and the way to the worker that fills it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ripieno.agent.attempts.attempt import Attempt

#: Names of agents and workers go into messages and rows by the thousand: the middle of a longer one is cut out.
NAME_BYTES = 256


class Lane(Protocol):
    """The way to one worker that serves."""

    @property
    def ahead(self) -> bool:
        """Whether it takes attempts ahead of time."""

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts into the worker's inbox."""

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Ask attempts back that may not have begun."""

    def interrupt(self, attempt: Attempt) -> None:
        """Stop an attempt; ``left`` follows when the worker has yielded, or ``withdrawn``."""

    def kill(self, reason: str) -> bool:
        """End the worker, which did not yield; False if it is not ours to end."""


@dataclass(eq=False, slots=True)
class Slot:
    """One worker's place.

    Attributes:
        inbox: What was sent to the worker and has not left it, in order.
        head_since, head_since_us: When the first of them became the first: monotonic
            seconds, and microseconds since the epoch.
        stuck: Its worker ignores an interruption and is not ours to end.
    """

    name: str
    lane: Lane | None = None
    inbox: deque[Attempt] = field(default_factory=deque)
    head_since: float = 0.0
    head_since_us: int = 0
    stuck: bool = False

    @property
    def serves(self) -> bool:
        """Whether it may be given attempts."""
        return self.lane is not None and not self.stuck

    def mark_begun(self) -> None:
        """The first attempt of the inbox runs here, since it became the first."""
        head = self.inbox[0]
        head.started_at_us, head.worker = self.head_since_us, self.name

    def behind(self) -> list[Attempt]:
        """What waits in the inbox and may still be asked back."""
        return [attempt for attempt in list(self.inbox)[1:] if attempt.verdict is None and not attempt.withdrawing]
