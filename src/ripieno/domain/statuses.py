"""Statuses of sessions, tasks and results, and tables of their transitions.

The numbers are the store's own; the protocol spells and numbers the same statuses
differently (``wire.statuses``). All final statuses are 10 or more, which SQL relies on.
"""

from enum import IntEnum
from types import MappingProxyType

FIRST_FINAL = 10


class SessionStatus(IntEnum):
    """Status of a session, which takes work until it is cancelled."""

    RUNNING = 1
    CANCELLED = 10


class TaskStatus(IntEnum):
    """Status of a task.

    SUBMITTED: waiting for its dependencies or for an agent. DISPATCHED: claimed for an
    agent. PROCESSING: seen running on a worker. CANCELLING: cancelled while it ran; its
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
        """Whether nothing ever leaves this status (INV-1)."""
        return self >= FIRST_FINAL


class ResultStatus(IntEnum):
    """Status of a result.

    NAMED: some task depends on the key, but no task has announced it as an output yet; outside
    the store such a result does not exist.
    """

    NAMED = 0
    CREATED = 1
    COMPLETED = 10
    ABORTED = 11

    @property
    def final(self) -> bool:
        """Whether nothing ever leaves this status (INV-1)."""
        return self >= FIRST_FINAL


#: Status -> the statuses that may follow it. Transitions that are not here never happen.
TASK_TRANSITIONS = MappingProxyType(
    {
        TaskStatus.SUBMITTED: frozenset({TaskStatus.DISPATCHED, TaskStatus.ERROR, TaskStatus.CANCELLED}),
        TaskStatus.DISPATCHED: frozenset(
            {
                TaskStatus.PROCESSING,
                TaskStatus.SUBMITTED,  # retry or release
                TaskStatus.COMPLETED,
                TaskStatus.ERROR,
                TaskStatus.TIMEOUT,
                TaskStatus.CANCELLING,
            }
        ),
        TaskStatus.PROCESSING: frozenset(
            {
                TaskStatus.SUBMITTED,  # retry or release
                TaskStatus.COMPLETED,
                TaskStatus.ERROR,
                TaskStatus.TIMEOUT,
                TaskStatus.CANCELLING,
            }
        ),
        TaskStatus.CANCELLING: frozenset({TaskStatus.CANCELLED}),
        TaskStatus.COMPLETED: frozenset(),
        TaskStatus.ERROR: frozenset(),
        TaskStatus.TIMEOUT: frozenset(),
        TaskStatus.CANCELLED: frozenset(),
    }
)

RESULT_TRANSITIONS = MappingProxyType(
    {
        ResultStatus.NAMED: frozenset({ResultStatus.CREATED}),
        ResultStatus.CREATED: frozenset({ResultStatus.COMPLETED, ResultStatus.ABORTED}),
        ResultStatus.COMPLETED: frozenset(),
        ResultStatus.ABORTED: frozenset(),
    }
)
