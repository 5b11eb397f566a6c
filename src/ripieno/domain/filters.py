"""Filters by which calls select tasks or sessions."""

from collections.abc import Sequence
from dataclasses import dataclass

from ripieno.domain.statuses import SessionStatus, TaskStatus


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Selects tasks by id or by session, AND by status.

    Exactly one of ``task_ids`` and ``session_ids`` is not None.

    Attributes:
        task_ids: Ids of the tasks; None selects by session.
        session_ids: Ids of the sessions; None selects by task.
        statuses: Statuses of the tasks; None means any.
    """

    task_ids: Sequence[str] | None
    session_ids: Sequence[str] | None
    statuses: frozenset[TaskStatus] | None = None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Selects sessions by id (None means all) AND by status (None means any)."""

    session_ids: Sequence[str] | None
    statuses: frozenset[SessionStatus] | None = None
