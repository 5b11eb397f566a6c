"""Deletion: all rows of a session go, some thousand at a time, and its id stays behind for a year.

The session itself goes first, in the transaction of the step: from then on nobody finds it, nothing is added to
it, and late outcomes of its attempts are refused as those of any attempt that owns its task no more.
"""

from ripieno.store.database.database import Connection, Database
from ripieno.store.life.pace import Pace
from ripieno.store.life.sweep import Sweep, Turns, paced_turn
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.lives import SQL


async def delete(database: Database, sweep: Sweep) -> Turns:
    """Delete the rows of a session that was deleted; durable at the end.

    Yields:
        The changes of each turn.
    """
    pace = Pace(database.processors)

    async def delete_some(connection: Connection) -> int:
        rows: int = await connection.fetchval(SQL.delete_rows, sweep.session_no, pace.size)
        return rows

    while await paced_turn(database, sweep, delete_some, pace):
        yield Changes({sweep.session_no})

    async def delete_rest(connection: Connection) -> None:
        await connection.execute(SQL.delete_options, sweep.session_no)
        # Counts that somebody folds meanwhile (``store.sessions.counts``) are seen by the second statement only.
        await connection.execute(SQL.delete_counts, sweep.session_no)
        await connection.execute(SQL.delete_counts, sweep.session_no)
        await connection.execute(SQL.end_sweep, sweep.session_no, sweep.token)

    await database.turns.take(database, [sweep.session_no], delete_rest)
    yield Changes({sweep.session_no}, gone={sweep.session_no})
