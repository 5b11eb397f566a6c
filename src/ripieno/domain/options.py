"""Task options: the limits, the priority, the partition and the timers of a task."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.texts import is_encodable
from ripieno.domain.timers import check_timers, is_delayed, sets_timer

MIN_PRIORITY = 1
MAX_PRIORITY = 99

#: Longest duration that fits PostgreSQL's bigint of microseconds and protobuf's Duration.
MAX_DURATION_US = 315_576_000_000 * 1_000_000

#: Largest number of retries: the protocol's field has 32 bits, one of them for the sign.
MAX_RETRIES = 2**31 - 1

PARTITION_OPTION = "partition"
DEFAULT_PARTITION = ""

#: Stands in place of the partition of unfinished tasks while their session is paused. It is blank, so it is no name:
#: no agent serves it, and no task asks for it.
PARKED_PARTITION = " "


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Options of a task, or the default options of a session.

    Attributes:
        max_duration_us: Time limit of one attempt, in microseconds, from its start on a worker.
        max_retries: Number of attempts that may follow the first.
        priority: 1 to 99, larger is more urgent.
        options: Free map handed to the worker. The key ``partition`` names the pool of
            workers that may run the task; keys that begin with ``ripieno.`` are the system's (``domain.timers``).
    """

    max_duration_us: int
    max_retries: int
    priority: int
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def partition(self) -> str:
        """Name of the pool of workers that may run the task."""
        return self.options.get(PARTITION_OPTION, DEFAULT_PARTITION)

    @property
    def sets_timer(self) -> bool:
        """Whether a task may have a timer from its submission on."""
        return sets_timer(self.options)

    @property
    def is_delayed(self) -> bool:
        """Whether a task does not start before some time after its submission."""
        return is_delayed(self.options)

    @property
    def free_bytes(self) -> int:
        """Size of the names and values of the free map, in bytes of UTF-8."""
        return sum([len(text.encode()) for pair in self.options.items() for text in pair])


@dataclass(frozen=True, slots=True)
class OptionChanges:
    """What is different in options of tasks; None, or a name that is left out, stays as it is."""

    max_duration_us: int | None = None
    max_retries: int | None = None
    priority: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def applied_to(self, options: TaskOptions) -> TaskOptions:
        """Return the options with these changes."""
        return TaskOptions(
            options.max_duration_us if self.max_duration_us is None else self.max_duration_us,
            options.max_retries if self.max_retries is None else self.max_retries,
            options.priority if self.priority is None else self.priority,
            {**options.options, **self.options},
        )


def check_changes(where: str, changes: OptionChanges) -> None:
    """Check changes as ``check_options`` does the options that have them; errors as there."""
    check_options(where, changes.applied_to(TaskOptions(1, 0, MIN_PRIORITY)))


def check_options(where: str, options: TaskOptions) -> None:
    """Check the values of task options; ``where`` is the field that holds them.

    Raises:
        InvalidRequestError: if a value is out of range; the text names its field and the value.
    """
    if options.max_duration_us <= 0:
        raise InvalidRequestError(
            f"{where}.max_duration", f"{options.max_duration_us / 1e6:g} s is not a time limit; set it above zero"
        )
    if options.max_duration_us > MAX_DURATION_US:
        raise InvalidRequestError(f"{where}.max_duration", f"{options.max_duration_us} us is out of range")
    if options.max_retries < 0:
        raise InvalidRequestError(f"{where}.max_retries", f"{options.max_retries} is negative; use 0 for no retry")
    if options.max_retries > MAX_RETRIES:
        raise InvalidRequestError(f"{where}.max_retries", f"{options.max_retries} is more than {MAX_RETRIES}")
    if not MIN_PRIORITY <= options.priority <= MAX_PRIORITY:
        raise InvalidRequestError(
            f"{where}.priority", f"{options.priority} is outside {MIN_PRIORITY}..{MAX_PRIORITY} (larger is more urgent)"
        )
    for key, value in options.options.items():
        if "\0" in key or "\0" in value:
            raise InvalidRequestError(f"{where}.options", f"{key!r} contains a NUL character, which no option may")
        if not (is_encodable(key) and is_encodable(value)):
            raise InvalidRequestError(f"{where}.options", f"{key!r} contains a lone surrogate, which UTF-8 cannot hold")
    if PARTITION_OPTION in options.options:
        check_identifier(f"{where}.options[{PARTITION_OPTION!r}]", options.options[PARTITION_OPTION])
    check_timers(f"{where}.options", options.options)
