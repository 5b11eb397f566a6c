"""How many more assignments to ask for, and when to give waiting ones back: arithmetic on slots, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from ripieno.agent.scheduling.pace import Pace
from ripieno.agent.scheduling.slots import Slot


def more_wanted(slots: Sequence[Slot], pace: Pace, owed: int, now: float, *, congested: bool) -> int:
    """How many assignments to ask for beyond those that are held or owed already.

    Args:
        slots: All slots of the agent.
        pace: Run times and sizes seen so far.
        owed: Attempts in hand, plus assignments that were granted and have not arrived.
        now: Monotonic time in seconds.
        congested: Whether too much is unsettled to ask for anything.
    """
    serving = [slot for slot in slots if slot.serves]
    wanted = due = 0
    if not congested:
        windows = sum(pace.window(slot.lane.ahead) for slot in serving if slot.lane)
        due = sum(len(slot.inbox) == 1 and pace.due(now - slot.head_since) for slot in serving)
        wanted = pace.wanted(len(serving), windows, due)
    missing = wanted - owed
    # Credit is granted by quarters, because a message to the control plane costs as much as ten tasks,
    # unless a worker would have nothing to do meanwhile.
    if missing > 0 and (missing >= wanted // 4 or owed < len(serving) + due):
        return missing
    return 0


def busy_for_long(slots: Sequence[Slot], pace: Pace, now: float) -> float | None:
    """How many seconds every worker has been busy with one attempt; None unless all exceed their patience.

    An attempt that is due to end soon counts as within patience.
    """
    serving = [slot for slot in slots if slot.serves]
    for slot in serving:
        assert slot.lane is not None
        running_s = now - slot.head_since
        if not slot.inbox or running_s <= pace.patience_s(slot.lane.ahead) or pace.due(running_s):
            return None
    return min(now - slot.head_since for slot in serving) if serving else None
