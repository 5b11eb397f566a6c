"""Timers of tasks: the keys of the free map of options that say when a task starts, ends, or is tried again.

All keys that begin with ``ripieno.`` are the system's. The store keeps the times, by the clock of the database
(``store.graph.timers``). It reads the same texts as this module (``seconds_of`` and ``deadline_of`` in its migrations).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ripieno.domain.errors import InvalidRequestError

PREFIX = "ripieno."

#: Seconds from submission before which the task does not start.
DELAY = "ripieno.delay"
#: Seconds from submission, or an RFC 3339 time, at which a task that has not ended is ended.
DEADLINE = "ripieno.deadline"
#: Seconds between the failure of the first attempt and the second attempt; 0 for none.
FIRST_DELAY = "ripieno.retry.first_delay"
#: By what that delay grows from attempt to attempt.
FACTOR = "ripieno.retry.factor"
#: The longest delay between two attempts, in seconds.
MAX_DELAY = "ripieno.retry.max_delay"
#: The part of each delay, 0 to 1, by which it may be shorter, as chance will have it.
JITTER = "ripieno.retry.jitter"

KEYS = (DELAY, DEADLINE, FIRST_DELAY, FACTOR, MAX_DELAY, JITTER)

DEFAULT_FACTOR = 2.0

#: The longest time in seconds (31 years), which nine digits can say.
MOST_SECONDS = 999_999_999

_SETS_TIMER = frozenset({DELAY, DEADLINE})
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-](0\d|1[0-5]):[0-5]\d)", re.ASCII)

#: A length of time: seconds, or a timedelta.
Duration = float | timedelta


def sets_timer(free: Mapping[str, str]) -> bool:
    """Whether a task with this free map may have a timer from its submission on."""
    return not _SETS_TIMER.isdisjoint(free)


def is_delayed(free: Mapping[str, str]) -> bool:
    """Whether a task with this free map does not start before some time after its submission."""
    # A text that a release stored before the key had a meaning counts as none, as it does in the store.
    text = free.get(DELAY)
    return text is not None and _NUMBER.fullmatch(text) is not None and float(text) > 0


def check_timers(where: str, free: Mapping[str, str]) -> None:
    """Check the keys of a free map of options that are the system's; ``where`` is the field that holds the map.

    Raises:
        InvalidRequestError: a value is none, or out of range, or there is no such key; the text names it.
    """
    for key in free:
        if key.startswith(PREFIX) and key not in KEYS:
            known = ", ".join(KEYS)
            raise InvalidRequestError(
                f"{where}[{key[:100]!r}]",
                f"is not an option; names that begin with {PREFIX!r} are kept for the system, which knows {known}",
            )
    delay_s = _number(where, free, DELAY, "seconds")
    deadline_s = _deadline(where, free)
    _number(where, free, FIRST_DELAY, "seconds", ", 0 for no delay")
    factor = _number(where, free, FACTOR, "a number, 1 or more")
    if factor is not None and factor < 1:
        raise _refused(where, free, FACTOR, "would shorten each delay; give 1 for equal delays, or more")
    longest_s = _number(where, free, MAX_DELAY, "seconds")
    if longest_s == 0:
        raise _refused(where, free, MAX_DELAY, f"leaves no delay; give more, or no {FIRST_DELAY}")
    jitter = _number(where, free, JITTER, "a number between 0 and 1")
    if jitter is not None and jitter > 1:
        raise _refused(where, free, JITTER, "is more than all of a delay; give a part between 0 and 1")
    if delay_s and deadline_s is not None and delay_s >= deadline_s:
        raise _refused(
            where, free, DELAY, f"is not before the deadline, {free[DEADLINE]} s: the task would never start"
        )


def _deadline(where: str, free: Mapping[str, str]) -> float | None:
    """Check the deadline; return its seconds from submission, None if it is a moment, or there is none."""
    text = free.get(DEADLINE)
    if text is None:
        return None
    if _TIME.fullmatch(text):
        try:
            datetime.fromisoformat(text)
        except ValueError as error:
            raise _refused(where, free, DEADLINE, f"is no time: {error}") from None
        return None
    seconds = _number(where, free, DEADLINE, "seconds", ", or a time with its offset, such as 2027-01-31T18:00:00Z")
    if seconds == 0:
        raise _refused(where, free, DEADLINE, "would end the task at once; give more seconds")
    return seconds


def _number(where: str, free: Mapping[str, str], key: str, kind: str, also: str = "") -> float | None:
    text = free.get(key)
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise _refused(
            where, free, key, f"is not {kind}; write digits such as 90 or 0.25, up to {MOST_SECONDS:,d}{also}"
        )
    return float(text)


def _refused(where: str, free: Mapping[str, str], key: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"{where}[{key!r}]", f"{free[key][:100]!r} {why}")


@dataclass(frozen=True, slots=True)
class TimerOptions:
    """Timers of a task as callers say them; None is left out. ``entries`` puts them into the free map of its options.

    Attributes:
        delay: Time from submission before which the task does not start.
        deadline: Time from submission, or the moment, at which the task is ended if it has not ended.
        retry_first_delay: Time between the failure of the first attempt and the second attempt.
        retry_factor: By what that time grows from attempt to attempt.
        retry_max_delay: The longest time between two attempts.
        retry_jitter: The part of each such time, 0 to 1, by which it may be shorter.
    """

    delay: Duration | None = None
    deadline: Duration | datetime | None = None
    retry_first_delay: Duration | None = None
    retry_factor: float | None = None
    retry_max_delay: Duration | None = None
    retry_jitter: float | None = None

    def entries(self, where: str = "options") -> dict[str, str]:
        """Return the entries of the free map that say the same; ``where`` names what holds the fields, for errors.

        Raises:
            TypeError: a value is of the wrong type.
            InvalidRequestError: a value is out of range.
        """
        entries: dict[str, str] = {}
        for key, name, value in (
            (DELAY, "delay", self.delay),
            (FIRST_DELAY, "retry_first_delay", self.retry_first_delay),
            (FACTOR, "retry_factor", self.retry_factor),
            (MAX_DELAY, "retry_max_delay", self.retry_max_delay),
            (JITTER, "retry_jitter", self.retry_jitter),
        ):
            if value is not None:
                entries[key] = _text(f"{where}.{name}", value, may_be_long=name not in ("retry_factor", "retry_jitter"))
        if isinstance(self.deadline, datetime):
            if self.deadline.tzinfo is None:
                raise InvalidRequestError(
                    f"{where}.deadline", f"{self.deadline} has no time zone; give one, as in datetime.now(UTC)"
                )
            entries[DEADLINE] = self.deadline.isoformat()
        elif self.deadline is not None:
            entries[DEADLINE] = _text(f"{where}.deadline", self.deadline, may_be_long=True)
        return entries


def _text(field: str, value: object, *, may_be_long: bool) -> str:
    """Return a number, or a length of time in seconds, as digits; microseconds are the finest."""
    if may_be_long and isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = "a number of seconds or a timedelta" if may_be_long else "a number"
        raise TypeError(f"{field} is {kind}, not {value!r}")
    if not 0 <= value <= MOST_SECONDS:
        raise InvalidRequestError(field, f"{value} is out of range; give 0 to {MOST_SECONDS}")
    return f"{value:.6f}".rstrip("0").rstrip(".")
