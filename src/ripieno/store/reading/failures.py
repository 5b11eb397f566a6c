"""Query about how one attempt has failed, which locks and changes nothing."""

from dataclasses import dataclass
from datetime import datetime

from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from ripieno.store.reading.reasons import as_it_ends, causes, own_reason

_SQL = Queries("lookup")


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """How an attempt has failed.

    Attributes:
        attempt: Number of the attempt, from 0.
        status: ERROR, TIMEOUT or CANCELLED.
        detail: The reason; where the task failed for want of an input, the chain down to the first cause.
        value: What the worker attached to the failure; None for nothing.
        agent, worker: Where the attempt ran; empty as far as that is not known.
        started_at, ended_at: When it ran; None if it did not begin, or still is being cancelled.
        failed_input: Key of the input for want of which the task failed; empty if it failed by itself.
        root_id: Id of the task whose own end was the first cause of that; empty if there is none.
    """

    attempt: int
    status: TaskStatus
    detail: str
    value: bytes | None
    agent: str
    worker: str
    started_at: datetime | None
    ended_at: datetime | None
    failed_input: str = ""
    root_id: str = ""


@dataclass(frozen=True, slots=True)
class FailureState:
    """A task as far as its failures are concerned.

    Attributes:
        latest: Number of its latest attempt.
        status: Its present status.
        failed: The attempt that was asked for; None if it has not failed.
    """

    latest: int
    status: TaskStatus
    failed: FailedAttempt | None


async def failure_of_attempt(database: Database, task_no: int, attempt: int | None) -> FailureState | None:
    """Return how an attempt has failed; ``attempt`` None means the latest that did. None if there is no such task."""
    rows = await database.fetch(_SQL.failure_of_attempt, task_no, attempt)
    if not rows:
        return None
    row = rows[0]
    if row["retry"] is None:
        return FailureState(row["latest"], TaskStatus(row["task_status"]), None)
    for_want_of_input = row["failed_input"] is not None
    detail = (await causes(database, [task_no])).get(task_no, "") if for_want_of_input else own_reason(row)
    failed = FailedAttempt(
        row["retry"],
        as_it_ends(row),
        detail,
        row["failure_value"],
        row["agent"] or "",
        row["worker"] or "",
        row["started_at"],
        row["ended_at"],
        row["input"] or "",
        row["root_id"] or "",
    )
    return FailureState(row["latest"], TaskStatus(row["task_status"]), failed)
