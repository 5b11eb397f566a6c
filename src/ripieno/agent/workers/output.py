"""The output of attempts on workers that the agent has started, taken from what the worker's process has printed."""

from __future__ import annotations

import asyncio

from ripieno.agent.scheduling.slots import Slot
from ripieno.domain.output import AttemptOutput
from ripieno.printed import PATIENCE_S, Position, Printed

#: Pause between looks at a warden that has not read everything yet.
_LOOK_AGAIN_S = 0.0005


async def position_now(printed: Printed) -> Position | None:
    """Return the position now, as soon as the warden is not in the middle of a read; None after ``PATIENCE_S``."""
    ends_at = asyncio.get_running_loop().time() + PATIENCE_S
    position = printed.position(patience_s=0)
    while position is None and asyncio.get_running_loop().time() < ends_at:
        await asyncio.sleep(_LOOK_AGAIN_S)
        position = printed.position(patience_s=0)
    return position


async def output_since(printed: Printed, start: Position | None) -> AttemptOutput | None:
    """Return what was printed since ``start``, as soon as the warden has read it; None if nothing was, or it is unknown.

    Waits no longer than ``PATIENCE_S``; what is not read by then counts as left out.
    """
    if start is None or (printed.quiet() and printed.last == start):
        return None
    ends_at = asyncio.get_running_loop().time() + PATIENCE_S
    end = printed.position(patience_s=0)
    while (end is None or not printed.has_read(end)) and asyncio.get_running_loop().time() < ends_at:
        await asyncio.sleep(_LOOK_AGAIN_S)
        end = end or printed.position(patience_s=0)
    return printed.between(start, end) if end is not None else None


def keep_last_output(slot: Slot, printed: Printed | None) -> AttemptOutput | None:
    """Give the attempt with which a worker process has ended what it had printed until then, and return it.

    Where several attempts were in the inbox, nobody knows which one ran, and they run again; where the worker has
    several places nobody knows which one has printed what.
    """
    if len(slot.group) > 1 or printed is None or slot.output_since is None or not slot.inbox:
        return None
    head = slot.inbox[0]
    end = printed.position(patience_s=0)
    if end is not None and (len(slot.inbox) == 1 or head.verdict is not None):
        head.output = printed.between(slot.output_since, end)
        return head.output
    return None
