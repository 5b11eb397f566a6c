"""Looks: queries to the store on behalf of waiters, one at a time, soon after a change and at times at everything.

A look is asked for by changes and by new waiters; requests that come while a look is under way
are served by the next one. After each look there is a pause of four times its duration, so that
changes cause looking for no more than a fifth of the time (INV-22); a new waiter does not wait for
the pause. Now and then a look is at everything, in case a message was lost: it is due by the clock,
however many changes are told meanwhile, and so seldom that it takes no more than a twentieth of the
time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from ripieno.background import FIRST_PAUSE_S, LONGEST_PAUSE_S, Setback

#: The shortest pause after a look in seconds, and the pause as a multiple of the look's duration.
_SHORTEST_PAUSE_S = 0.01
_PAUSES = 4

#: The time between looks at everything: this many seconds, or this multiple of the last one's duration, if longer.
LOOK_AT_ALL_S = 10.0
_PAUSES_AFTER_ALL = 20


class Look:
    """Schedules the looks of one watch. ``run`` never ends by itself.

    Args:
        look: Looks once; called with whether to look at everything, or only at what may have changed. If
            it raises an exception, that is a fault: it is called again after a pause.
        faults: Where faults are reported; many looks share one.
        all_every_s: Seconds between looks at everything.
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
        """Ask for a look, after the pause: something may have changed."""
        self._asked.set()

    def ask_urgently(self) -> None:
        """Ask for a look without a pause before it: there is a new waiter."""
        self._asked.set()
        self._urgent.set()

    def ask_for_all(self) -> None:
        """Ask for a look at everything, after the pause: anything may have changed, or messages may have been lost."""
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
        """Look, and try again after growing pauses until that succeeds."""
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
                # The last waiter has gone, so nobody here would see the end of the fault; the next fault must be reported.
                self._faults.drop()
            raise


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, or for ``seconds``."""
    if event.is_set() or seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass  # the time was up, as it may be
