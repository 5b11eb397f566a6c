"""Sweeps: work on all tasks, or all data, of a session, in short turns that have it for themselves.

A step of the session's life notes its sweep in the transaction that changes the status (``begin``). A later step
of its life replaces it, and the sweep ends at its next turn: so a session has one sweep at most. What a replica that ended
has left of one, another goes on with, from the beginning (``store.life.lives``).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import NamedTuple, TypeVar
from uuid import UUID, uuid4

from ripieno.store.database.database import Connection, Database
from ripieno.store.database.gates import gates
from ripieno.store.life.pace import Pace
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.lives import SQL

T = TypeVar("T")

#: The changes of each turn of a sweep.
Turns = AsyncIterator[Changes]


class Kind(Enum):
    """Kind of a sweep; the value is that of the column ``kind`` of ``pending_sweeps``."""

    PARK = "park"
    UNPARK = "unpark"
    PURGE = "purge"
    DELETE = "delete"


class Sweep(NamedTuple):
    """The sweep of a session.

    Attributes:
        newest_task: No task beyond this number is meant.
    """

    session_no: int
    kind: Kind
    token: UUID
    newest_task: int = (1 << 63) - 1


async def begin(connection: Connection, session_no: int, kind: Kind) -> Sweep:
    """Note a new sweep in the transaction of the step that it belongs to; it replaces the session's former one."""
    token = uuid4()
    newest = await connection.fetchval(SQL.begin_sweep, session_no, token, kind.value)
    return Sweep(session_no, kind, token, newest)


async def turn(
    database: Database, sweep: Sweep, work: Callable[[Connection], Awaitable[T]], *, goes_on: bool = True
) -> T | None:
    """Take one turn of a sweep; return None, and do nothing, if another step of the session's life has replaced it.

    A crash of the database may undo the turn. The end of a sweep is durable, and so is then all that came before.

    Args:
        database: The database.
        sweep: The sweep.
        work: Called in a transaction that holds the session's gate exclusively; may be called again.
        goes_on: As for ``Turns.take``.
    """

    async def write(connection: Connection) -> T | None:
        if await connection.fetchrow(SQL.go_on, sweep.session_no, sweep.token) is None:
            return None
        return await work(connection)

    return await database.turns.take(database, [sweep.session_no], write, goes_on=goes_on, durable=False)


async def paced_turn(
    database: Database, sweep: Sweep, work: Callable[[Connection], Awaitable[T]], pace: Pace
) -> T | None:
    """Take one turn of a sweep that deletes, as ``turn`` does, at its own pace."""

    async def write(connection: Connection) -> T | None:
        if await connection.fetchrow(SQL.go_on, sweep.session_no, sweep.token) is None:
            return None
        return await work(connection)

    own = [sweep.session_no]
    return await pace.step(lambda: database.transaction(write, opening=gates(own, frozenset(own)), durable=False))


async def end(database: Database, sweep: Sweep) -> None:
    """End a sweep that is through, durably with all that it did; no-op if another one has replaced it."""

    async def write(connection: Connection) -> None:
        await connection.execute(SQL.end_sweep, sweep.session_no, sweep.token)

    await database.turns.take(database, [sweep.session_no], write)
