"""Placement of waiting attempts on workers: evenly, as far as each has room."""

from __future__ import annotations

from collections.abc import Sequence

from ripieno.agent.attempts.attempt import Attempt
from ripieno.agent.scheduling.pace import Pace
from ripieno.agent.scheduling.slots import Slot
from ripieno.agent.scheduling.waiting import Waiting

#: Nothing is put behind an attempt that has been running for longer than this, unless it is due to end.
#: Attempts that lie behind it already go to another worker that has less to do.
STUCK_S = 0.010
#: Windows of at least this size are refilled by halves, so that attempts are sent in larger batches.
_HALVES_FROM = 8


def place(waiting: Waiting, slots: Sequence[Slot], pace: Pace, now: float) -> list[tuple[Slot, list[Attempt]]]:
    """Take attempts out of ``waiting`` for workers that have room, up to the first that must be alone.

    Returns:
        Slots and the attempts for each.
    """
    open_slots = [slot for slot in slots if _is_open(slot, pace, now)]
    if not open_slots:
        return []
    held = sum(len(slot.inbox) for slot in open_slots)
    level = -(-(held + len(waiting)) // len(open_slots))
    placed = []
    for slot in sorted(open_slots, key=lambda slot: len(slot.inbox)):
        assert slot.lane is not None
        room = min(_window(slot, pace, now), level) - len(slot.inbox)
        batch: list[Attempt] = []
        while room > 0 and waiting and not waiting[0].solitary:
            batch.append(waiting.popleft())
            room -= 1
        if batch:
            placed.append((slot, batch))
    return placed


def _is_open(slot: Slot, pace: Pace, now: float) -> bool:
    lane, held = slot.lane, len(slot.inbox)
    if lane is None or slot.stuck:
        return False
    if not held:
        return True
    if slot.inbox[0].solitary:
        return False
    if now - slot.head_since > STUCK_S:
        return held < _window(slot, pace, now) and pace.due(now - slot.head_since)
    window = pace.window(lane.ahead)
    return held < window if window < _HALVES_FROM else held <= window // 2


def _window(slot: Slot, pace: Pace, now: float) -> int:
    """How many attempts the inbox of a slot may hold now."""
    assert slot.lane is not None
    window = pace.window(slot.lane.ahead)
    if window == 1 and slot.lane.ahead and slot.inbox and pace.due(now - slot.head_since):
        return 2
    return window
