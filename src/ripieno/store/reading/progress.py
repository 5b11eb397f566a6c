"""Query about how far attempts that run have come, which locks and changes nothing."""

from datetime import datetime
from typing import NamedTuple

from ripieno.domain.progress import Progress
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("progress")


class AttemptProgress(NamedTuple):
    """How far an attempt has come, as its agent has told last.

    Attributes:
        claim: The claim under which it runs.
        attempt: Number of the attempt, from 0.
        written_at: When its agent told it.
    """

    claim: int
    task_id: str
    attempt: int
    progress: Progress
    written_at: datetime


async def progress_in_session(
    database: Database, session_no: int, since: datetime, task_no: int | None = None
) -> list[AttemptProgress]:
    """Return how far attempts of a session have come, of what was written at ``since`` or later, oldest first.

    Args:
        database: The database.
        session_no: Number of the session.
        since: A time of the database's clock.
        task_no: Number of the only task that is meant; None means all of the session.
    """
    rows = await database.fetch(_SQL.progress_in_session, session_no, since, task_no)
    return [
        AttemptProgress(
            row["claim"], row["id"], row["retry"], Progress(row["fraction"], row["text"]), row["written_at"]
        )
        for row in rows
    ]


async def session_is_there(database: Database, session_no: int) -> bool:
    """Return whether a session was not deleted."""
    row = await database.fetchrow(_SQL.session_is_there, session_no)
    return row is not None and bool(row["is_there"])
