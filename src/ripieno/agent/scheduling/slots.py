"""Slots, each a place in a worker, and the ``Lane`` protocol that sends attempts to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ripieno.agent.attempts.attempt import Attempt
from ripieno.printed import Position, Printed

#: Longest name of an agent or worker. Thousands of messages and rows carry names, so the middle of a longer one is cut.
NAME_BYTES = 256


class Lane(Protocol):
    """Sends attempts to one place of a worker that serves. Called by the dispatcher."""

    @property
    def ahead(self) -> bool:
        """Whether the worker takes attempts ahead, while another one runs."""

    @property
    def faces(self) -> Sequence[Lane]:
        """The lane as each slot of its worker sees it, in the order of the group."""

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts into the worker's inbox."""

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Ask for attempts back that may not have begun; ``Dispatcher.withdrawn`` follows for those that had not."""

    def interrupt(self, attempt: Attempt) -> None:
        """Ask the worker to stop an attempt. ``Dispatcher.left`` follows once it has, or ``withdrawn``."""

    def kill(self, reason: str) -> bool:
        """End a worker that did not stop an attempt in time. False if the agent did not start the worker."""


@dataclass(eq=False, slots=True)
class Slot:
    """A place in a worker, which runs one attempt at a time there.

    A worker has one place, or several where its author says so (``BatchReply.places``): then their slots are a group,
    whose first one is the worker's own, and which live and die together.

    Attributes:
        name: Name of the worker in messages and logs.
        lane: How its worker is reached; None while none serves.
        inbox: Attempts that were sent to the worker and have not left it, in order.
        head_since, head_since_us: When the first attempt of the inbox became the first: monotonic
            seconds, and microseconds since the epoch.
        printed: What its worker prints; None while none serves, or where that is not known.
        output_since: Where the output of the inbox's first attempt begins in what its worker prints; None if that
            is not known.
        group: The slots of the same worker, this one among them.
        stuck: Whether the worker ignores an interruption and is not ours to end.
    """

    name: str
    lane: Lane | None = None
    inbox: deque[Attempt] = field(default_factory=deque)
    head_since: float = 0.0
    head_since_us: int = 0
    printed: Printed | None = None
    output_since: Position | None = None
    stuck: bool = False
    group: list[Slot] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if not self.group:
            self.group.append(self)

    @property
    def serves(self) -> bool:
        """Whether the slot may be given attempts."""
        return self.lane is not None and not self.stuck

    def mark_begun(self) -> None:
        """Note in the inbox's first attempt that it runs here, since it became the first."""
        head = self.inbox[0]
        head.started_at_us, head.worker = self.head_since_us, self.name

    def behind(self) -> list[Attempt]:
        """Return the attempts behind the inbox's first that may still be asked back."""
        return [attempt for attempt in list(self.inbox)[1:] if attempt.verdict is None and not attempt.withdrawing]


def set_places(slots: list[Slot], first: Slot, places: int) -> None:
    """Give the worker of a slot so many places: add slots beside its own, or remove those that are left over.

    Those that are left over are of a worker that is gone, so that no attempt is in them.
    """
    group = first.group
    for extra in group[places:]:
        assert not extra.inbox and extra.lane is None, "slots go with their worker"
        slots.remove(extra)
    del group[places:]
    while len(group) < places:
        added = Slot(first.name, group=group)
        slots.insert(slots.index(group[-1]) + 1, added)
        group.append(added)
