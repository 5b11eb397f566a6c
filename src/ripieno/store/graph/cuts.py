"""Cuts: tasks that depend on an aborted result are failed, step by step.

A transaction that aborts a result for which tasks wait notes that (``begin``), and takes
the first step itself if nobody else is in the session; so a small graph is cut in the
transaction that aborts. Whatever is left is noted in the table ``pending_cuts`` in the same
transaction, and is done in further short turns (``store.database.turns``) by the replica that began,
or by another replica if that one has ended (``Abandoned``).
"""

from collections.abc import AsyncIterator, Iterable, Mapping

import asyncpg

from ripieno.store.database.database import Connection, Database
from ripieno.store.database.turns import STEP_S
from ripieno.store.graph.creation import Key, columns
from ripieno.store.graph.graph import SQL
from ripieno.store.sessions.changes import Changes

#: Bounds of the step that a transaction takes beside other work: tasks and results, and milliseconds.
_ON_THE_SIDE = (500, 20)

_STEP_MS = int(STEP_S * 1000)


async def begin(connection: Connection, aborted: Mapping[Key, int]) -> Changes:
    """Note aborted results for which tasks wait, and take a first step: the last phase of a transaction.

    Args:
        connection: The session, in its transaction.
        aborted: Keys, each with the number of a task: dependents up to that number need not be failed.
    """
    keys = sorted(aborted)
    rows = await connection.fetch(SQL.begin_cuts, *columns(keys), [aborted[key] for key in keys], *_ON_THE_SIDE)
    return changes_of(rows)


async def go_on(connection: Connection, sessions: Iterable[int], most: int) -> Changes:
    """Take a step in each of the sessions, whose gates the caller holds exclusively."""
    return changes_of(await connection.fetch(SQL.cut_sessions, sorted(sessions), most, _STEP_MS))


async def step(database: Database, session_no: int, *, goes_on: bool = False) -> Changes:
    """Take one step of the cuts of a session; ``Changes.cuts`` says whether more is left to do.

    A crash of the database may undo the step, which is then done again.

    Args:
        database: The database.
        session_no: Number of the session.
        goes_on: True if a former step of the same work was not enough.
    """

    async def write(connection: Connection) -> Changes:
        return await go_on(connection, [session_no], database.turns.size)

    return await database.turns.take(database, [session_no], write, goes_on=goes_on, durable=False)


async def finish(database: Database, sessions: Iterable[int]) -> AsyncIterator[Changes]:
    """Take steps until the cuts of these sessions are finished, or wait for a cancellation, which then goes on."""
    for session_no in sorted(sessions):
        changes = await step(database, session_no)
        yield changes
        while changes.cuts:
            changes = await step(database, session_no, goes_on=True)
            yield changes


def changes_of(rows: Iterable[asyncpg.Record]) -> Changes:
    """Return the changes of steps, from the rows that they returned."""
    changes = Changes()
    for row in rows:
        if row["failed"]:
            changes.sessions.add(row["of_session"])
            changes.stopped.add(row["of_session"])
        changes.add_aborted((row["of_session"], key) for key in row["aborted"])
        if row["finished"] is False:  # null while a cancellation is under way, at whose end the cut goes on
            changes.cuts.add(row["of_session"])
    return changes
