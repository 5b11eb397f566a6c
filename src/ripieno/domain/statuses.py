"""Statuses of sessions, tasks and results.

The numbers are the store's own; the protocol spells and numbers the same statuses
differently (``wire.statuses``). All final statuses are 10 or more, which SQL relies on.
"""

from enum import IntEnum

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
        """Whether nothing leaves this status (INV-1), unless somebody asks for a retry of what failed."""
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
        """Whether nothing leaves this status (INV-1), unless somebody asks for a retry of what failed."""
        return self >= FIRST_FINAL
