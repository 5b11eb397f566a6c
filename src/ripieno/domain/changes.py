"""Changes of sessions, tasks and results, as those who follow them are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A session that is in a status from now on."""

    session_id: str
    at: datetime
    status: SessionStatus


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A task that is in a status, or that waits for no dependency and no time, from now on.

    Attributes:
        attempt: Number of the attempt, from 0.
        created: Whether the task is new. Then its expected outputs are CREATED, and its own, from now on.
        ready: Whether it waits for no dependency and no time; told at its creation, and when the last of them has come.
    """

    session_id: str
    at: datetime
    task_id: str
    status: TaskStatus
    attempt: int
    created: bool = False
    ready: bool = False
    expected_output_keys: Sequence[str] = ()
    data_dependencies: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ResultChange:
    """A result that is in a status from now on, or has another owner.

    Attributes:
        owner_task_id: Task that is to make the result, or has made it; empty if none is.
        size: Bytes of a COMPLETED one, else 0.
    """

    session_id: str
    at: datetime
    key: str
    status: ResultStatus
    owner_task_id: str
    size: int = 0


Change = SessionChange | TaskChange | ResultChange
