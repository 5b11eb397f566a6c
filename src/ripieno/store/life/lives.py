"""The steps of a session's life: each changes its status in one short transaction, then does what follows in turns.

A step is durable, and holds, from its first transaction on; what follows is complete when the iterator is at its end.
If the replica ends in between, another goes on (``AbandonedSweeps``).
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from types import MappingProxyType
from uuid import UUID

from ripieno.domain.errors import SessionStepError
from ripieno.domain.statuses import SessionStatus, SessionStep
from ripieno.store.database.database import Connection, Database
from ripieno.store.graph.cancel import cancel_session
from ripieno.store.life.deletion import delete
from ripieno.store.life.parking import park
from ripieno.store.life.purging import purge
from ripieno.store.life.sweep import Kind, Sweep, Turns, begin
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.lives import SQL, standing, take_step

#: What follows from a step. A closed session that was paused runs on.
_FOLLOWS = MappingProxyType(
    {
        SessionStep.PAUSE: Kind.PARK,
        SessionStep.RESUME: Kind.UNPARK,
        SessionStep.CLOSE: Kind.UNPARK,
        SessionStep.PURGE: Kind.PURGE,
        SessionStep.DELETE: Kind.DELETE,
    }
)

#: Steps with which data goes.
_GOES = frozenset({SessionStep.PURGE, SessionStep.DELETE})

_SWEEPS = MappingProxyType({Kind.PARK: park, Kind.UNPARK: park, Kind.PURGE: purge, Kind.DELETE: delete})


async def live(
    database: Database, session_no: int, step: SessionStep, incarnation: int | None = None
) -> AsyncIterator[Changes]:
    """Take a step of a session's life, and do what follows from it. Idempotent, durable at the end.

    * PAUSE: from the end on nothing new is claimed. Attempts that run end, and commit.
    * RESUME, CLOSE: what was parked is claimable again.
    * CANCEL: as ``cancel_session``.
    * PURGE: the data of its payloads and results is gone.
    * DELETE: cancels what is unfinished; then the session, and all that it had, is gone.

    Args:
        database: The database.
        session_no: Number of the session.
        step: The step.
        incarnation: Incarnation that the number is from; None for the present one.

    Yields:
        The changes of each transaction.

    Raises:
        NotFoundError: there is no such session.
        SessionStepError: its status does not allow the step; nothing was changed.
    """
    if step is SessionStep.CANCEL:
        async for changes in cancel_session(database, session_no, incarnation):
            yield changes
        return
    if step is SessionStep.DELETE:
        with suppress(SessionStepError):  # it was purged, and has nothing unfinished
            async for changes in cancel_session(database, session_no, incarnation):
                yield changes
    changes, sweep = await take(database, session_no, step, incarnation)
    yield changes
    if sweep is not None:
        async for changes in follow(database, sweep):
            yield changes


async def take(
    database: Database, session_no: int, step: SessionStep, incarnation: int | None = None
) -> tuple[Changes, Sweep | None]:
    """Take a step other than CANCEL in one transaction, durably; a session is cancelled before it is deleted.

    Returns:
        The changes, and the sweep that follows (``follow``), if any.

    Raises:
        NotFoundError: there is no such session.
        SessionStepError: its status does not allow the step; nothing was changed.
    """
    kind = _FOLLOWS[step]

    async def mark(connection: Connection) -> Sweep | None:
        before, after = await take_step(connection, session_no, step)
        if step in _GOES:
            await connection.execute(SQL.drop_pending, session_no)
        if step is SessionStep.DELETE:
            await connection.execute(SQL.delete_session, session_no)
        if after is before.status:  # a repetition: it takes part in what is under way, if anything is
            return None if before.sweep is None else Sweep(session_no, kind, before.sweep)
        if kind is Kind.UNPARK and before.status is not SessionStatus.PAUSED and before.sweep is None:
            return None  # nothing is parked
        return await begin(connection, session_no, kind)

    sweep = await database.turns.take(database, [session_no], mark, incarnation=incarnation)
    return Changes({session_no}, gone={session_no} if step in _GOES else set()), sweep


async def follow(database: Database, sweep: Sweep) -> Turns:
    """Do what follows from a step, from the beginning also if somebody did a part of it before.

    Yields:
        The changes of each turn.
    """
    async for changes in _SWEEPS[sweep.kind](database, sweep):
        yield changes


async def stop_submission(
    database: Database, session_no: int, *, client: bool, worker: bool, incarnation: int | None = None
) -> Changes:
    """Stop submission of tasks by clients, by workers or both, for good; durable when it returns.

    In a session of any status. Neither changes nothing.

    Raises:
        NotFoundError: there is no such session.
    """

    async def write(connection: Connection) -> None:
        await standing(connection, session_no)
        await connection.execute(SQL.stop_submission, session_no, client, worker)

    await database.turns.take(database, [session_no], write, incarnation=incarnation)
    return Changes({session_no})


async def is_deleted(database: Database, session_id: str) -> bool:
    """Return whether a session of this id was deleted within the last year."""
    return await database.fetchrow(SQL.deleted_by_id, session_id) is not None


class AbandonedSweeps:
    """Finds sweeps that no replica works on any more, by remembering where all stood at the last look."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._steps: dict[UUID, int] = {}

    async def look(self) -> list[Sweep]:
        """Return the sweeps that have not moved since the last look."""
        rows = await self._database.fetch(SQL.pending_sweeps)
        before, self._steps = self._steps, {row["sweep"]: row["steps"] for row in rows}
        return [
            Sweep(row["session_no"], Kind(row["kind"]), row["sweep"])
            for row in rows
            if before.get(row["sweep"]) == row["steps"]
        ]
