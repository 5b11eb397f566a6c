"""Explanations: why a task is not running, or why it failed, as data.

``ripieno.domain.sentences`` puts each reason into words, ``store.reading.explanations`` finds the reasons,
``wire.explanations`` carries them. Whatever there may be many of is bounded: the first ones stand here, and a number
says how many there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus

#: Inputs, outputs and partitions that one explanation names.
MOST_NAMED = 20
#: Attempts of one task that one explanation tells, the latest ones.
MOST_ATTEMPTS = 50
#: A place in line is counted up to here.
MOST_AHEAD = 10_000


@dataclass(frozen=True, slots=True)
class AttemptTold:
    """One attempt of a task.

    Attributes:
        number: From 0.
        began_at: When a worker began it; None if none has.
        reason: The first line of why it failed; empty if it did not.
    """

    number: int
    status: TaskStatus
    agent: str
    worker: str
    claimed_at: datetime | None
    began_at: datetime | None
    ended_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class MissingInput:
    """An input that is not there yet.

    Attributes:
        status: NAMED: no task has announced it.
        task_id: The task that makes it; empty if none does (NAMED), or if a client is to upload it (CREATED).
        task_status: That task's status; None without a task.
    """

    key: str
    status: ResultStatus
    task_id: str
    task_status: TaskStatus | None


@dataclass(frozen=True, slots=True)
class WaitsForInputs:
    """A task that waits for its data dependencies, or for the result that is its payload.

    Attributes:
        missing: How many there are.
        inputs: The first ``MOST_NAMED`` of them; empty if all have come and the task is about to learn of it.
    """

    missing: int
    inputs: Sequence[MissingInput]


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One task of the chain from a failed task to the first failure.

    Attributes:
        input: The input for want of which this task failed; empty for the first failure.
    """

    task_id: str
    status: TaskStatus
    input: str


@dataclass(frozen=True, slots=True)
class InputFailed:
    """A task that failed without running, since an input will never come.

    Attributes:
        chain: From the task itself to the first failure; of a long chain the middle is left out.
        left_out: Whether it is.
        reason: Why the first failure happened.
        retried_since: Whether the first failure has been retried since, so that it has no reason any more.
        attempts: Attempts of the first failure, oldest first.
        attempts_total: How many it had.
    """

    chain: Sequence[ChainLink]
    left_out: bool
    reason: str
    retried_since: bool
    attempts: Sequence[AttemptTold]
    attempts_total: int


@dataclass(frozen=True, slots=True)
class NotServed:
    """A task whose partition no connected agent serves.

    Attributes:
        partition: Empty for the default one.
        served: Some of the partitions that are served.
    """

    partition: str
    served: Sequence[str]


@dataclass(frozen=True, slots=True)
class WaitsForSlot:
    """A task that could run, and waits for its turn.

    Attributes:
        agents: Connected agents that serve its partition.
        slots: Slots that they have.
        busy: Slots that they use.
        ahead: Tasks of the partition that come before it, up to ``MOST_AHEAD``.
    """

    partition: str
    agents: int
    slots: int
    busy: int
    ahead: int


@dataclass(frozen=True, slots=True)
class WaitsForTime:
    """A task that waits for its time.

    Attributes:
        until: When the wait ends.
        left: How long that is.
        attempt: Number of the attempt that begins then.
    """

    until: datetime
    left: timedelta
    attempt: int


@dataclass(frozen=True, slots=True)
class SessionStands:
    """A session whose status holds its tasks back, ended them, or takes no more of them."""

    session_id: str
    status: SessionStatus


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A task that an agent holds and no worker has begun.

    Attributes:
        agent_connected: Whether the agent has renewed its lease in time.
        since: When it was claimed.
        lasted: How long ago that was.
    """

    agent: str
    agent_connected: bool
    since: datetime
    lasted: timedelta


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs.

    Attributes:
        lasted: How long it has run.
        max_duration: Its time limit.
    """

    agent: str
    agent_connected: bool
    worker: str
    since: datetime
    lasted: timedelta
    max_duration: timedelta


@dataclass(frozen=True, slots=True)
class Deadline:
    """A task that is not final and is ended at some time.

    Attributes:
        at: When that is.
        left: How long until then.
    """

    at: datetime
    left: timedelta


@dataclass(frozen=True, slots=True)
class Cancelling:
    """A task that was cancelled, or came to its deadline, while it ran, and whose worker is being interrupted.

    Attributes:
        reason: Why, if it was not somebody who cancelled it.
    """

    agent: str
    agent_connected: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that failed by itself.

    Attributes:
        attempts: How many it had; 0 if it failed without running.
        reason: Why the last one failed, or why it had none.
        max_duration: Time limit of an attempt.
        by_deadline: Whether it was ended at its deadline.
    """

    status: TaskStatus
    attempts: int
    reason: str
    max_duration: timedelta
    by_deadline: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A task that was cancelled."""

    reason: str
    ran: bool


@dataclass(frozen=True, slots=True)
class Done:
    """A task that completed."""

    agent: str
    worker: str
    ended_at: datetime
    duration: timedelta | None


@dataclass(frozen=True, slots=True)
class OutputMissing:
    """An expected output of a completed task that has no data.

    Attributes:
        status: DELETED: it was there once. ABORTED: the task, or the one that it was passed to, did not make it. CREATED:
            that one has still to make it.
        task_id: The sub-task that the output was passed to; empty if it was not.
        purged: Whether it went with all data of its session.
    """

    key: str
    status: ResultStatus
    task_id: str
    purged: bool


About = (
    WaitsForInputs | InputFailed | NotServed | WaitsForSlot | WaitsForTime | SessionStands | HandedOver | Running
    | Deadline | Cancelling | Failed | Cancelled | Done | OutputMissing
)  # fmt: skip

#: Kind of a reason, as users and programs read it -> what it is about.
KINDS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "waits_for_inputs": WaitsForInputs,
        "input_failed": InputFailed,
        "not_served": NotServed,
        "waits_for_slot": WaitsForSlot,
        "waits_for_time": WaitsForTime,
        "session": SessionStands,
        "handed_over": HandedOver,
        "running": Running,
        "deadline": Deadline,
        "cancelling": Cancelling,
        "failed": Failed,
        "cancelled": Cancelled,
        "completed": Done,
        "output_missing": OutputMissing,
    }
)


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason.

    Attributes:
        kind: One of ``KINDS``, or one of a newer server.
        sentence: The reason and the way out, for people.
        about: The same for programs; None if the kind is one of a newer server.
    """

    kind: str
    sentence: str
    about: About | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is where it is.

    Attributes:
        attempt: Number of its latest attempt, from 0.
        reasons: The most important first; at least one.
        attempts: Its latest attempts, oldest first.
        attempts_total: How many it had.
    """

    task_id: str
    session_id: str
    status: TaskStatus
    attempt: int
    reasons: Sequence[Reason]
    attempts: Sequence[AttemptTold]
    attempts_total: int

    def __str__(self) -> str:
        """Return the explanation as lines for people."""
        return "\n".join(
            [f"task {self.task_id!r} is {self.status.name}", *(reason.sentence for reason in self.reasons)]
        )
