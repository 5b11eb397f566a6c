"""``TaskDefinition`` and ``TaskOptions``: how users describe the tasks to submit."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta

from ripieno.client.terms.handles import OneResult, ResultHandle
from ripieno.domain import options as domain
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.timers import Duration, TimerOptions

#: Input of a task: bytes; a file; an iterable of pieces of bytes, whose total may be larger than memory; or a result
#: that is, or will be, in the cluster.
Payload = bytes | bytearray | memoryview | os.PathLike[str] | Iterable[bytes] | ResultHandle

DEFAULT_MAX_DURATION_S = 300.0
DEFAULT_MAX_RETRIES = 3

_TIMES = tuple(each.name for each in fields(TimerOptions))


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A task to submit, for tasks that need more than a payload.

    Attributes:
        payload: The task's input. A file or an iterable is read while it is sent, in bounded
            memory. A one-shot iterator (a generator) cannot be sent again when the
            connection breaks; a file or a list can.
        expected_outputs: Keys of the results that the task makes; none means one result, whose key
            is the task's id.
        dependencies: Results that the task needs before it starts: keys of the session, tasks
            (a task stands for its only result), or results that a client has made.
        id: The task's id; None makes a unique one. With an id of your own, repeating an
            identical submission succeeds and creates nothing twice.
    """

    payload: Payload = b""
    expected_outputs: str | Sequence[str] = ()
    dependencies: OneResult | Iterable[OneResult] = ()
    id: str | None = None

    @classmethod
    def of(
        cls,
        payload: "Payload | TaskDefinition",
        expected_outputs: str | Sequence[str],
        dependencies: OneResult | Iterable[OneResult],
        task_id: str | None,
    ) -> "TaskDefinition":
        """Return the definition of a task that is given in parts, or whole.

        Raises:
            TypeError: the task is given both whole and in parts.
        """
        if not isinstance(payload, TaskDefinition):
            return cls(payload, expected_outputs, dependencies, task_id)
        if expected_outputs or dependencies or task_id is not None:
            raise TypeError("a TaskDefinition says the task's outputs, dependencies and id itself")
        return payload


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The options of tasks: priority, limits of their attempts, partition, times, and a free map.

    The cluster keeps the times by its own clock, whatever is restarted meanwhile.

    Attributes:
        priority: Urgency, 1 to 99; larger is more urgent.
        max_retries: How many attempts of a task may follow its first one if that fails.
        max_duration: Time limit of one attempt, in seconds or as a timedelta.
        partition: Pool of workers that may run the tasks; None is the default pool.
        options: Free map of text to text, handed to the worker.
        delay: Time from submission before which a task does not start, in seconds or as a timedelta.
        deadline: Time from submission, or the moment, at which a task is ended (TIMEOUT) that has not ended by then,
            whether it waits or runs.
        retry_first_delay: Time between the failure of a first attempt and the second attempt; None or 0 for none.
        retry_factor: By what that time grows from attempt to attempt, 1 or more; None stands for 2.
        retry_max_delay: The longest time between two attempts; None for no limit.
        retry_jitter: The part of each such time, 0 to 1, by which it may be shorter, as chance will have it.
    """

    priority: int = domain.MIN_PRIORITY
    max_retries: int = DEFAULT_MAX_RETRIES
    max_duration: float | timedelta = DEFAULT_MAX_DURATION_S
    partition: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    delay: Duration | None = None
    deadline: Duration | datetime | None = None
    retry_first_delay: Duration | None = None
    retry_factor: float | None = None
    retry_max_delay: Duration | None = None
    retry_jitter: float | None = None

    def checked(self) -> domain.TaskOptions:
        """Check the options and return them in the domain's terms.

        Raises:
            InvalidRequestError: a value is out of range.
            TypeError: a value has the wrong type.
        """
        self._check_kinds()
        limit = self.max_duration
        try:
            limit = limit if isinstance(limit, timedelta) else timedelta(seconds=limit)
        except (OverflowError, ValueError):
            raise InvalidRequestError("task_options.max_duration", f"{limit} s is out of range") from None
        free_map = dict(self.options)
        if self.partition is not None:
            free_map[domain.PARTITION_OPTION] = self.partition
        free_map |= TimerOptions(**{name: getattr(self, name) for name in _TIMES}).entries("task_options")
        checked = domain.TaskOptions(
            max_duration_us=limit // timedelta(microseconds=1),
            max_retries=self.max_retries,
            priority=self.priority,
            options=free_map,
        )
        domain.check_options("task_options", checked)
        return checked

    def _check_kinds(self) -> None:
        free: object = self.options
        text_of_text = isinstance(free, Mapping) and all(
            isinstance(text, str) for item in free.items() for text in item
        )
        for name, value, fits, kind in (
            ("priority", self.priority, isinstance(self.priority, int), "int"),
            ("max_retries", self.max_retries, isinstance(self.max_retries, int), "int"),
            ("max_duration", self.max_duration, isinstance(self.max_duration, int | float | timedelta), "float"),
            ("partition", self.partition, self.partition is None or isinstance(self.partition, str), "str"),
            ("options", self.options, text_of_text, "mapping of str to str"),
        ):
            if not fits:
                raise TypeError(f"task_options.{name} is a {kind}, not {value!r}")


@dataclass(frozen=True, slots=True)
class OptionChanges:
    """What is different in the options of tasks that are retried; None, or a name that is left out, stays as it is.

    Attributes:
        priority: Urgency, 1 to 99; larger is more urgent.
        max_retries: How many attempts may follow the next one if that fails.
        max_duration: Time limit of one attempt, in seconds or as a timedelta.
        partition: Pool of workers that may run the tasks.
        options: Entries of the free map, which are added or replaced.
        delay: Time from the retry before which a task does not start. None: it starts at once, whatever its delay from
            submission was.
        deadline: Time from the retry, or the moment, at which a task is ended. None: as before; seconds count anew.
        retry_first_delay, retry_factor, retry_max_delay, retry_jitter: As in ``TaskOptions``.
    """

    priority: int | None = None
    max_retries: int | None = None
    max_duration: float | timedelta | None = None
    partition: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    delay: Duration | None = None
    deadline: Duration | datetime | None = None
    retry_first_delay: Duration | None = None
    retry_factor: float | None = None
    retry_max_delay: Duration | None = None
    retry_jitter: float | None = None

    def checked(self) -> domain.OptionChanges:
        """Check the changes and return them in the domain's terms; errors as in ``TaskOptions.checked``."""
        named = {
            name: value
            for name in ("priority", "max_retries", "max_duration", "partition", *_TIMES)
            if (value := getattr(self, name)) is not None
        }
        options = TaskOptions(**named, options=self.options).checked()
        return domain.OptionChanges(
            None if self.max_duration is None else options.max_duration_us,
            None if self.max_retries is None else options.max_retries,
            None if self.priority is None else options.priority,
            options.options,
        )
