"""Query about what an attempt has printed, which locks and changes nothing."""

from dataclasses import dataclass, replace
from datetime import datetime

from ripieno.domain.outcomes import Ticket
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
        output: What the attempt has printed; None if nothing is kept. While it runs: so far, as a follower was told.
        agent_no: The agent that holds the attempt; None if none does.
        ticket: The agent's right to it; None if no agent holds it.
        written_at: When a follower was told of ``output``; None if none was.
    """

    attempt: int
    latest: int
    over: bool
    output: AttemptOutput | None = None
    agent_no: int | None = None
    ticket: Ticket | None = None
    written_at: datetime | None = None


async def output_of_attempt(database: Database, task_no: int, attempt: int | None) -> AttemptState | None:
    """Return what an attempt of a task has printed; ``attempt`` None means the latest. None if there is no such task."""
    rows = await database.fetch(_SQL.output_of_attempt, task_no, attempt)
    if not rows:
        return None
    row = rows[0]
    output = None
    if row["stdout"] is not None:
        output = AttemptOutput(row["stdout"], row["stderr"], row["stdout_left_out"], row["stderr_left_out"])
    state = AttemptState(row["attempt"], row["latest"], row["over"], output)
    if row["claim"] is None:
        return state
    ticket = Ticket(task_no, row["session_no"], row["claim"])
    return replace(state, agent_no=row["agent_no"], ticket=ticket, written_at=row["written_at"])
