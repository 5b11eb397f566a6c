"""Query about what an attempt has printed, which locks and changes nothing."""

from dataclasses import dataclass

from ripieno.domain.output import AttemptOutput
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("outputs")


@dataclass(frozen=True, slots=True)
class AttemptState:
    """One attempt of a task, as far as its output is concerned.

    Attributes:
        attempt: Number of the attempt, from 0.
        latest: Number of the task's latest attempt; those beyond it have not begun.
        over: Whether the attempt has ended, so that its output is final.
        output: What the attempt has printed; None if nothing is kept.
    """

    attempt: int
    latest: int
    over: bool
    output: AttemptOutput | None = None


async def output_of_attempt(database: Database, task_no: int, attempt: int | None) -> AttemptState | None:
    """Return what an attempt of a task has printed; ``attempt`` None means the latest. None if there is no such task."""
    rows = await database.fetch(_SQL.output_of_attempt, task_no, attempt)
    if not rows:
        return None
    row = rows[0]
    output = None
    if row["stdout"] is not None:
        output = AttemptOutput(row["stdout"], row["stderr"], row["stdout_left_out"], row["stderr_left_out"])
    return AttemptState(row["attempt"], row["latest"], row["over"], output)
