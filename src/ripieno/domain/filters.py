"""Which tasks or sessions a call speaks of."""

from collections.abc import Sequence
from dataclasses import dataclass

from ripieno.domain.statuses import SessionStatus, TaskStatus


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Tasks by id or by session, AND by status.

    Exactly one of ``task_ids`` and ``session_ids`` is not None, and it is not empty.

    Attributes:
        statuses: None means any.
    """

    task_ids: Sequence[str] | None
    session_ids: Sequence[str] | None
    statuses: frozenset[TaskStatus] | None = None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Sessions by id (None means all) AND by status (None means any)."""

    session_ids: Sequence[str] | None
    statuses: frozenset[SessionStatus] | None = None
