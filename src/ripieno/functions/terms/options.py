"""``CallOptions``: how a function is to be run, as callers say it; and ``Retry``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from ripieno.client import TaskOptions
from ripieno.domain.errors import InvalidRequestError

#: A length of time: seconds, or a timedelta.
Duration = float | timedelta


@dataclass(frozen=True, slots=True)
class Retry:
    """How a function that raised is tried again; the store keeps the delays, so they survive any restart.

    Attributes:
        times: How many attempts may follow the first one.
        first_delay: Time between the end of the first attempt and the second one; 0 for none.
        factor: By what the delay grows from attempt to attempt.
        max_delay: The longest delay; None for no limit.
        jitter: The part of each delay that is drawn at random, 0 to 1.
        on: The classes of exceptions after which the function is tried again. After any other exception the
            task has failed for good. Attempts that end otherwise (lost workers, time limits) always count.
    """

    times: int = 3
    first_delay: Duration = 0.0
    factor: float = 2.0
    max_delay: Duration | None = None
    jitter: float = 0.0
    on: tuple[type[BaseException], ...] | type[BaseException] = (Exception,)

    @property
    def classes(self) -> tuple[type[BaseException], ...]:
        """The classes of ``on``, always as a tuple.

        Raises:
            TypeError: something in it is no class of exceptions.
        """
        classes: tuple[Any, ...] = self.on if isinstance(self.on, tuple) else (self.on,)
        for each in classes:
            if not (isinstance(each, type) and issubclass(each, BaseException)):
                raise TypeError(f"Retry.on takes classes of exceptions, not {each!r}")
        return classes

    def entries(self) -> dict[str, str]:
        """Return what the store is told, as entries of the free map of options."""
        first = _seconds("retry.first_delay", self.first_delay)
        if not first:
            return {}
        named = {"ripieno.retry.first_delay": _text(first), "ripieno.retry.factor": _text(self.factor)}
        if self.max_delay is not None:
            named["ripieno.retry.max_delay"] = _text(_seconds("retry.max_delay", self.max_delay))
        if self.jitter:
            named["ripieno.retry.jitter"] = _text(self.jitter)
        return named


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How a function is to be run. None, or what is left out, stays as the session has it.

    Attributes:
        priority: Urgency, 1 to 99; larger is more urgent.
        max_retries: How many attempts may follow the first one if that fails.
        max_duration: Time limit of one attempt, in seconds or as a timedelta.
        partition: Pool of workers that may run the task.
        retry: How the function is tried again, with delays; in place of ``max_retries``.
        delay: Time from submission before which the task does not start.
        deadline: Time from submission, or the moment, at which the task is ended if it has not ended by itself.
        options: Free map of text to text, handed to the worker.
    """

    priority: int | None = None
    max_retries: int | None = None
    max_duration: Duration | None = None
    partition: str | None = None
    retry: Retry | None = None
    delay: Duration | None = None
    deadline: Duration | datetime | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def over(self, others: CallOptions) -> CallOptions:
        """Return these options, with those of ``others`` in the place of what is left out here."""
        chosen = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        if "retry" in chosen or "max_retries" in chosen:
            others = replace(others, retry=None, max_retries=None)
        return replace(others, **{**chosen, "options": {**others.options, **self.options}})

    def applied_to(self, defaults: TaskOptions) -> TaskOptions | None:
        """Return the task's options; None where they are the defaults.

        Raises:
            TypeError, InvalidRequestError: a value is of the wrong kind, or out of range.
        """
        if self == _NOTHING:
            return None
        if self.retry is not None and self.max_retries is not None:
            raise TypeError("give retry or max_retries, not both: retry=Retry(times=...) says how many")
        free = {**defaults.options, **self.options}
        max_retries = self.max_retries
        if self.retry is not None:
            max_retries = self.retry.times
            free |= self.retry.entries()
        if self.delay is not None:
            free["ripieno.delay"] = _text(_seconds("delay", self.delay))
        if self.deadline is not None:
            free["ripieno.deadline"] = _moment(self.deadline)
        given: dict[str, Any] = {
            "priority": self.priority,
            "max_retries": max_retries,
            "max_duration": self.max_duration,
            "partition": self.partition,
        }
        return replace(defaults, options=free, **{name: value for name, value in given.items() if value is not None})

    @classmethod
    def taken_from(cls, arguments: dict[str, Any]) -> CallOptions:
        """Take the options out of keyword arguments, and return them."""
        return cls(**{name: arguments.pop(name) for name in _NAMES if name in arguments})


_NAMES = tuple(each.name for each in fields(CallOptions) if each.name != "options")
#: The keyword arguments of ``submit`` and ``map`` that are options, not arguments of the function.
RESERVED = frozenset((*_NAMES, "after", "unique_key"))
_NOTHING = CallOptions()


def _seconds(name: str, duration: Any) -> float:
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise TypeError(f"{name} is a number of seconds or a timedelta, not {duration!r}")
    if not 0 <= duration < float("inf"):
        raise InvalidRequestError(name, f"{duration} is not a length of time; give seconds, 0 or more")
    return float(duration)


def _moment(deadline: Any) -> str:
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise InvalidRequestError("deadline", f"{deadline} has no time zone; give one, as in datetime.now(UTC)")
        return deadline.isoformat()
    return _text(_seconds("deadline", deadline))


def _text(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".") or "0"
