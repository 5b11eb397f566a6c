"""Statuses of sessions, tasks and results.

The numbers are the store's own; the protocol spells and numbers the same statuses
differently (``wire.statuses``). All final statuses are 10 or more, which SQL relies on.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from types import MappingProxyType

FIRST_FINAL = 10


class SessionStatus(IntEnum):
    """Status of a session.

    RUNNING: takes tasks, and agents are given them. PAUSED: takes tasks, and agents are given none. CLOSED: takes
    none, and those it has end. CANCELLED: what was unfinished is cancelled. PURGED: its data is gone, its rows
    are there. DELETED: nothing is left but its id, which does not come back for a year (no row of the
    table ``sessions`` has this status: it is gone from there).
    """

    RUNNING = 1
    PAUSED = 2
    CANCELLED = 10
    CLOSED = 11
    PURGED = 12
    DELETED = 13


class SessionStep(Enum):
    """A step in the life of a session; the value is the word that people read."""

    PAUSE = "paused"
    RESUME = "resumed"
    CLOSE = "closed"
    CANCEL = "cancelled"
    PURGE = "purged"
    DELETE = "deleted"


#: Status -> the steps that it allows, each with the status that follows. A step to the status that a session has
#: already changes nothing, so that it may be repeated when a reply was lost.
SESSION_TRANSITIONS: Mapping[SessionStatus, Mapping[SessionStep, SessionStatus]] = MappingProxyType(
    {
        SessionStatus.RUNNING: {
            SessionStep.PAUSE: SessionStatus.PAUSED,
            SessionStep.RESUME: SessionStatus.RUNNING,
            SessionStep.CLOSE: SessionStatus.CLOSED,
            SessionStep.CANCEL: SessionStatus.CANCELLED,
            SessionStep.DELETE: SessionStatus.DELETED,
        },
        SessionStatus.PAUSED: {
            SessionStep.PAUSE: SessionStatus.PAUSED,
            SessionStep.RESUME: SessionStatus.RUNNING,
            SessionStep.CLOSE: SessionStatus.CLOSED,
            SessionStep.CANCEL: SessionStatus.CANCELLED,
            SessionStep.DELETE: SessionStatus.DELETED,
        },
        SessionStatus.CLOSED: {
            SessionStep.CLOSE: SessionStatus.CLOSED,
            SessionStep.CANCEL: SessionStatus.CANCELLED,
            SessionStep.PURGE: SessionStatus.PURGED,
            SessionStep.DELETE: SessionStatus.DELETED,
        },
        SessionStatus.CANCELLED: {
            SessionStep.CANCEL: SessionStatus.CANCELLED,
            SessionStep.PURGE: SessionStatus.PURGED,
            SessionStep.DELETE: SessionStatus.DELETED,
        },
        SessionStatus.PURGED: {
            SessionStep.PURGE: SessionStatus.PURGED,
            SessionStep.DELETE: SessionStatus.DELETED,
        },
        SessionStatus.DELETED: {
            SessionStep.DELETE: SessionStatus.DELETED,
        },
    }
)

#: Statuses in which a session takes tasks, of clients and of workers, unless their submission was stopped.
TAKES_TASKS = frozenset({SessionStatus.RUNNING, SessionStatus.PAUSED})

#: Statuses in which failed tasks of a session may be retried: as long as it may have unfinished ones and has its data.
TAKES_RETRIES = TAKES_TASKS | {SessionStatus.CLOSED}


class TaskStatus(IntEnum):
    """Status of a task.

    SUBMITTED: waiting for its dependencies, its time or an agent. DISPATCHED: claimed for an
    agent. PROCESSING: seen running on a worker. CANCELLING: cancelled while it ran, or its deadline passed; its
    worker is being interrupted. The rest are final.
    """

    SUBMITTED = 1
    DISPATCHED = 2
    PROCESSING = 3
    CANCELLING = 4
    COMPLETED = 10
    ERROR = 11
    TIMEOUT = 12
    CANCELLED = 13

    @property
    def final(self) -> bool:
        """Whether nothing leaves this status (INV-1), unless somebody asks for a retry of what failed."""
        return self >= FIRST_FINAL


#: Status -> the statuses that may follow it, each with what has happened then, in words for people. Transitions that are
#: not here never happen.
TASK_TRANSITIONS: Mapping[TaskStatus, Mapping[TaskStatus, str]] = MappingProxyType(
    {
        TaskStatus.SUBMITTED: {
            TaskStatus.DISPATCHED: "claimed",
            TaskStatus.ERROR: "an input was aborted",
            TaskStatus.TIMEOUT: "its deadline passed",
            TaskStatus.CANCELLED: "cancelled",
        },
        TaskStatus.DISPATCHED: {
            TaskStatus.PROCESSING: "seen running",
            TaskStatus.SUBMITTED: "failed and retried, or given back",
            TaskStatus.COMPLETED: "done",
            TaskStatus.ERROR: "failed, and no retry is left",
            TaskStatus.TIMEOUT: "failed, and no retry is left",
            TaskStatus.CANCELLING: "cancelled, or its deadline passed",
        },
        TaskStatus.PROCESSING: {
            TaskStatus.SUBMITTED: "failed and retried, or given back",
            TaskStatus.COMPLETED: "done",
            TaskStatus.ERROR: "failed, and no retry is left",
            TaskStatus.TIMEOUT: "failed, and no retry is left",
            TaskStatus.CANCELLING: "cancelled, or its deadline passed",
        },
        TaskStatus.CANCELLING: {
            TaskStatus.CANCELLED: "its worker has let go",
            TaskStatus.TIMEOUT: "let go after its deadline",
        },
        TaskStatus.COMPLETED: {},
        # It, or what made it fail, is retried.
        TaskStatus.ERROR: {TaskStatus.SUBMITTED: "somebody asks for a retry"},
        TaskStatus.TIMEOUT: {TaskStatus.SUBMITTED: "somebody asks for a retry"},
        TaskStatus.CANCELLED: {},
    }
)


class ResultStatus(IntEnum):
    """Status of a result.

    NAMED: some task depends on the key, but no task has announced it as an output yet; outside
    the store such a result does not exist. CREATED: its data is not there yet. DELETED: it was COMPLETED, and
    its data is gone.
    """

    NAMED = 0
    CREATED = 1
    COMPLETED = 10
    ABORTED = 11
    DELETED = 12

    @property
    def final(self) -> bool:
        """Whether nothing leaves this status (INV-1), unless somebody asks for a retry, or deletes its data."""
        return self >= FIRST_FINAL

    @property
    def unobtainable(self) -> bool:
        """Whether the result has no data and never will: whoever depends on it fails."""
        return self in (ResultStatus.ABORTED, ResultStatus.DELETED)
