"""The life of a session: its status, and the steps that change it (``SESSION_TRANSITIONS``).

Whoever takes a step holds the gate of the session exclusively; whoever adds to the session holds it shared. So what
reads the status in its transaction is never overtaken by a step, and nothing of this is ever cached.
"""

from typing import NamedTuple
from uuid import UUID

from ripieno.domain.errors import NotFoundError, SessionStepError
from ripieno.domain.statuses import SESSION_TRANSITIONS, SessionStatus, SessionStep
from ripieno.store.database.database import Connection
from ripieno.store.database.queries import Queries

SQL = Queries("lives")


class Standing(NamedTuple):
    """A session as a transaction finds it that holds its gate.

    Attributes:
        unfinished: Tasks that are not final.
        sweep: Token of the work of its latest step, if that is under way (``store.life.sweep``).
    """

    id: str
    status: SessionStatus
    unfinished: int
    sweep: UUID | None


async def standing(connection: Connection, session_no: int) -> Standing:
    """Return how a session stands.

    Raises:
        NotFoundError: there is no such session (any more).
    """
    row = await connection.fetchrow(SQL.standing, session_no)
    if row is None:
        session_id = await connection.fetchval(SQL.deleted, session_no)
        name = f"number {session_no}" if session_id is None else repr(session_id)
        raise NotFoundError(f"session {name} was deleted")
    return Standing(row["id"], SessionStatus(row["status"]), row["unfinished"], row["sweep"])


async def take_step(connection: Connection, session_no: int, step: SessionStep) -> tuple[Standing, SessionStatus]:
    """Take a step of a session's life, if its status allows it, in the transaction that holds its gate exclusively.

    A step that was taken before changes nothing. The work that follows from the step is the caller's.

    Returns:
        How the session stood before the step, and its status after it.

    Raises:
        NotFoundError: there is no such session (any more).
        SessionStepError: the session's status, or its unfinished tasks, do not allow the step; nothing was changed.
    """
    before = await standing(connection, session_no)
    after = SESSION_TRANSITIONS[before.status].get(step)
    if after is None:
        raise SessionStepError.of(before.id, step.value, f"it is {before.status.name}; nothing was changed")
    if step is SessionStep.PURGE and before.unfinished:
        raise SessionStepError.of(
            before.id,
            step.value,
            f"{before.unfinished:,} of its tasks are unfinished; wait until they end, or cancel it. Nothing was changed",
        )
    if after not in (before.status, SessionStatus.DELETED):  # a deleted session has no row
        await connection.execute(SQL.set_status, session_no, after)
    return before, after
