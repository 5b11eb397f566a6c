"""The pace of sweeps that delete: as fast as others do not feel.

What they delete belongs to nobody any more: nobody waits for the gate of the session, so the turns of
``store.database.turns``, which are short for the sake of those who wait, are not needed. A step is as large as 40 ms
allow, judged by the steps before. The pause after it is as long as the step, and nine times as long where the processors
have no time to spare.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ripieno.processors import Processors

T = TypeVar("T")

#: How long a step should take.
_STEP_S = 0.04

#: Bounds of the size of a step, in rows of a kind.
_SMALLEST, _LARGEST = 250, 8_000

#: The pause after a step, as a multiple of it: always, and in addition where the processors have no time to spare.
_PAUSE = 1.0
_PAUSE_WHEN_BUSY = 8.0
_LONGEST_PAUSE_S = 1.0


class Pace:
    """The pace of one sweep.

    Attributes:
        size: Rows of a kind that a step should delete.
    """

    def __init__(self, processors: Processors) -> None:
        self.size = 1_000
        self._processors = processors
        self._next_at = 0.0

    async def step(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do a step when the pause after the one before is over."""
        await asyncio.sleep(self._next_at - time.monotonic())
        began = time.monotonic()
        value = await work()
        took_s = time.monotonic() - began
        pause_s = took_s * (_PAUSE + _PAUSE_WHEN_BUSY * self._processors.lack)
        self._next_at = time.monotonic() + min(pause_s, _LONGEST_PAUSE_S)
        wanted = int(self.size * min(max(_STEP_S / max(took_s, 0.001), 0.5), 1.25))
        self.size = max(_SMALLEST, min(wanted, _LARGEST))
        return value
