"""Looks: one at a time, soon after a change, and at everything by due time.

A look is asked for by changes and by whoever begins to wait; what is asked for while a look
is under way is served by the next one. After each look there is a pause of four times its
cost, so that changes cause no more looking than a fifth of anything (INV-22); whoever begins to wait
does not wait for the pause. Now and then a look is at everything, in case a message was lost: it is due
by the clock, however many changes are told meanwhile, and so seldom that it takes no more than a
twentieth of anything.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from ripieno.background import FIRST_PAUSE_S, LONGEST_PAUSE_S, Setback

#: The shortest pause after a look, and how many times its cost it is otherwise.
_SHORTEST_PAUSE_S = 0.01
_PAUSES = 4

#: The time between looks at everything: this, or so many times what the last one took.
LOOK_AT_ALL_S = 10.0
_PAUSES_AFTER_ALL = 20


class Look:
    """Looks for those who wait for one thing. ``run`` never ends by itself.

    Args:
        look: Looks once; told whether at everything, or only at what may have changed. What
            it raises is a fault: it is asked again after a pause.
        faults: Where faults are told; many looks share one.
        all_every_s: The time between looks at everything.
    """

    def __init__(
        self, look: Callable[[bool], Awaitable[None]], faults: Setback, all_every_s: float = LOOK_AT_ALL_S
    ) -> None:
        self._look = look
        self._faults = faults
        self._all_every_s = all_every_s
        self._all = False
        self._asked = asyncio.Event()
        self._urgent = asyncio.Event()

    def ask(self) -> None:
        """Something may have changed."""
        self._asked.set()

    def ask_urgently(self) -> None:
        """Somebody new waits: do not pause first."""
        self._asked.set()
        self._urgent.set()

    def ask_for_all(self) -> None:
        """Anything may have changed, messages may have been lost."""
        self._all = True
        self._asked.set()

    async def run(self) -> None:
        """Look until cancelled."""
        due_at = time.monotonic() + self._all_every_s
        while True:
            await _set_within(self._asked, due_at - time.monotonic())
            at_all = self._all or time.monotonic() >= due_at
            self._asked.clear()
            self._urgent.clear()
            self._all = False
            began_at = time.monotonic()
            await self._surely(at_all)
            took_s = time.monotonic() - began_at
            if at_all:
                due_at = time.monotonic() + max(self._all_every_s, _PAUSES_AFTER_ALL * took_s)
            await _set_within(self._urgent, max(_SHORTEST_PAUSE_S, _PAUSES * took_s))

    async def _surely(self, at_all: bool) -> None:
        """Look, again and again until it succeeds."""
        pause_s = FIRST_PAUSE_S
        failed = False
        try:
            while True:
                try:
                    await self._look(at_all)
                except Exception as error:  # noqa: BLE001 - a look outlives whatever it meets
                    failed = True
                    self._faults.note(error)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                else:
                    if failed:
                        self._faults.over()
                    return
        except asyncio.CancelledError:
            if failed:
                # Nobody waits any more, so nobody here would see the end of the fault; the next one is to be told.
                self._faults.drop()
            raise


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer than that."""
    if event.is_set() or seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass  # the time was up, as it may be
