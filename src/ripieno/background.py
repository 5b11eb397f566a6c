"""Background loops of a process, and how they handle faults.

A ``Loop`` repeats a piece of work by due time on the monotonic clock: an early turn (``wake``)
never puts off the next due one. An exception in a turn ends neither the loop nor the process: the
fault is logged once, turns go on after growing pauses, the process reports that it is not ready
meanwhile (``Health``), and the end of the fault is logged once.

``persist`` does the same for a single piece of work that has to be done, however long it takes.

Code that declares a peer dead after a time of silence must look at ``Loop.late_s`` first: a loop
that runs late was itself stopped, asleep or held up, and what it did not hear meanwhile proves nothing.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from ripieno.domain.errors import InvariantError, OutcomeUnknownError, OverloadedError, RipienoError, UnavailableError

_log = logging.getLogger(__name__)

#: The first pause after a fault and the longest, in seconds.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0

#: A fault that comes and goes is logged at most once in this time.
TELL_EVERY_S = 10.0

#: Errors after which the same work may be tried again: nothing is wrong with the work itself.
PASSING = (UnavailableError, OutcomeUnknownError, OverloadedError)

Done = TypeVar("Done")


class Health:
    """The parts of a process that are at fault right now, and why.

    A part may be several pieces of work at a time (commits, say): its fault begins with the
    first that fails and ends with the first that succeeds. Both are logged, the fault each time it
    comes back but no more than once in ``TELL_EVERY_S``.

    Args:
        changed: Called with whether the process is well, when the first part falls into fault
            and when the last one recovers.
    """

    def __init__(self, changed: Callable[[bool], None] = lambda _well: None) -> None:
        self.changed = changed
        self._faults: dict[str, _Fault] = {}
        #: Part -> monotonic time from which a new fault of it may be logged again.
        self._quiet_until: dict[str, float] = {}

    @property
    def faults(self) -> Mapping[str, str]:
        """The reason of each present fault, by the name of the part."""
        return {part: fault.why for part, fault in self._faults.items()}

    @property
    def well(self) -> bool:
        """Whether no part is at fault."""
        return not self._faults

    def fault(self, part: str, error: Exception) -> None:
        """Note that a try of `part` failed with `error`; log it if this begins a fault."""
        was_well, now = self.well, time.monotonic()
        fault = self._faults.get(part)
        if fault is None:
            fault = self._faults[part] = _Fault(now)
            if now >= self._quiet_until.get(part, now):
                self._quiet_until[part] = now + TELL_EVERY_S
                fault.told = True
                _tell(part, error)
        fault.tries += 1
        fault.why = error.detail if isinstance(error, RipienoError) else repr(error)
        if was_well:
            self.changed(False)

    def works(self, part: str) -> None:
        """Note that a try of `part` succeeded, which ends its fault; log that if the fault was logged."""
        if (fault := self._faults.pop(part, None)) is not None:
            if fault.told:
                lasted_s = time.monotonic() - fault.since
                _log.warning("%s works again after %.1f s (failed tries: %d)", part, lasted_s, fault.tries)
            if self.well:
                self.changed(True)

    def drop(self, part: str) -> None:
        """Forget the fault of a part that is not tried any more, without having worked."""
        if self._faults.pop(part, None) is not None and self.well:
            self.changed(True)


class _Fault:
    """One fault of a part: when it began, the latest reason, the failed tries, and whether it was logged."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.why = ""
        self.tries = 0
        self.told = False


def _tell(part: str, error: Exception) -> None:
    if isinstance(error, RipienoError) and not isinstance(error, InvariantError):
        _log.warning("%s does not work, and is tried again until it does: %s", part, error.detail)
    else:
        _log.error("%s failed by a bug; it is tried again", part, exc_info=error)


class Setback:
    """Counts the failures of one piece of work in a row, and says how long to pause before the next try.

    Args:
        part: Names the part that the work belongs to, in logs and in ``health``.
        health: Told of the fault and of its end; None for a private ``Health``.
        first_pause_s: Longest pause after the first failure; doubled after each further one.
        longest_pause_s: Limit of that doubling.
    """

    def __init__(
        self,
        part: str,
        health: Health | None = None,
        *,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._part = part
        self._health = health or Health()
        self._first_pause_s = self._pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._tries = 0

    def note(self, error: Exception) -> float:
        """Note a failed try; return the seconds to pause before the next one."""
        self._tries += 1
        self._health.fault(self._part, error)
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, self._longest_pause_s)
        # A random share of the pause: processes that failed together must not try again together.
        return random.uniform(0.5, 1.0) * pause_s  # noqa: S311 - no secret

    def over(self) -> None:
        """Note a successful try: the fault is over and pauses start short again."""
        if self._tries:
            self._health.works(self._part)
            self._begin_anew()

    def drop(self) -> None:
        """Note that the work is given up: its fault is forgotten."""
        if self._tries:
            self._health.drop(self._part)
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._tries = 0
        self._pause_s = self._first_pause_s


class Loop:
    """Repeats a piece of work (a turn), by due time.

    Guarantee: a turn begins ``every_s`` after the last due one began, however often ``wake``
    asked for one in between; turns that were missed are not made up for. Only cancelling
    ends ``run``.

    Args:
        part: Names the loop in logs and in ``health``.
        turn: The work. Any exception it raises is a fault: logged once, and the turn is tried again.
        every_s: Seconds between due turns.
        health: Where a fault is noted while it lasts; None for a private ``Health``.
        at_once: Whether the first turn is due at the start instead of after ``every_s``.
        clock: Time in seconds, monotonic.

    Attributes:
        due: Whether the present turn is a due one rather than one that ``wake`` asked for. A turn
            that failed stays due until one succeeds.
        late_s: Seconds by which the present turn began later than it should have: the process was
            stopped, the machine slept, or something held up the event loop or the last turn.
    """

    def __init__(
        self,
        part: str,
        turn: Callable[[], Awaitable[None]],
        *,
        every_s: float,
        health: Health | None = None,
        at_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.due = False
        self.late_s = 0.0
        self._turn = turn
        self._every_s = every_s
        self._at_once = at_once
        self._clock = clock
        self._asked = asyncio.Event()
        self._setback = Setback(part, health, longest_pause_s=max(FIRST_PAUSE_S, min(LONGEST_PAUSE_S, every_s)))

    def wake(self) -> None:
        """Ask for a turn now. Neither the time of the next due turn nor a pause after a fault changes."""
        self._asked.set()

    async def run(self) -> None:
        """Take turns until cancelled."""
        due_at = self._clock() + (0.0 if self._at_once else self._every_s)
        while True:
            self.due = await self._until(due_at)
            began_at = self._clock()
            self.late_s = max(0.0, began_at - due_at)
            while (pause_s := await self._failed()) is not None:
                try_at = self._clock() + pause_s
                await asyncio.sleep(pause_s)
                began_at = self._clock()
                self.late_s = max(0.0, began_at - try_at)
                self.due = self.due or began_at >= due_at
            if self.due:
                due_at = began_at + self._every_s

    async def _until(self, due_at: float) -> bool:
        """Wait until a turn is due (True) or asked for (False)."""
        if not self._asked.is_set() and (left_s := due_at - self._clock()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._asked.wait()
            except TimeoutError:
                pass  # the turn is due
        self._asked.clear()
        return self._clock() >= due_at

    async def _failed(self) -> float | None:
        """Take one turn; return None, or the seconds to pause after its failure."""
        try:
            await self._turn()
        except Exception as error:  # noqa: BLE001 - no fault of a turn ends the loop
            return self._setback.note(error)
        self._setback.over()
        return None


async def persist(part: str, work: Callable[[], Awaitable[Done]], health: Health | None = None) -> Done:
    """Call ``work`` until it succeeds, and return its result.

    ``work`` is called again after growing pauses while it raises one of ``PASSING``, so doing it
    twice has to be harmless. The fault and its end are logged once each.

    Raises:
        Exception: whatever else ``work`` raises is passed on at once, as trying again would not help.
    """
    setback = Setback(part, health)
    while True:
        try:
            done = await work()
        except PASSING as error:
            await asyncio.sleep(setback.note(error))
        except BaseException:
            setback.drop()
            raise
        else:
            setback.over()
            return done
