"""Timers: tasks that wait for their time, and tasks that are ended at their deadline.

A task that does not start before some time (a delay from its submission, or the wait before another attempt) has a row in
the table ``timers``, which counts as one more unmet dependency. Once the time has come the task is promoted, as if that
dependency were completed. A deadline is a row of another kind: once it has passed, a task that waits is in TIMEOUT, and one
that an agent holds is CANCELLING until the agent has let go. Both happen by the clock of the database alone.

Steps are short, and any number of replicas may take them at the same time. Promotions share the gates of their sessions, as
commits do, and skip what another replica has locked. Deadlines of unfinished tasks are kept in turns that have the
sessions for themselves (``store.database.turns``), as cancellations are, since they abort results that others may wait for.
"""

from collections.abc import AsyncIterator, Sequence

from ripieno.store.database.database import Connection, Database
from ripieno.store.database.gates import MOST_GATES
from ripieno.store.database.queries import Queries
from ripieno.store.graph import cuts
from ripieno.store.graph.cancel import changes_of_cancelled
from ripieno.store.sessions.changes import Changes

SQL = Queries("timers")

#: Timers of each kind that a step looks at (measured: 1,000 promotions take 23 ms).
_STEP = 1_000


async def next_due(database: Database) -> float | None:
    """Return in how many seconds the next timer is due, 0 or less if one is; None if there is none."""
    row = await database.fetchrow(SQL.next_due)
    assert row is not None  # an aggregate always has a row
    due_in_s: float | None = row["due_in_s"]
    return due_in_s


async def due_sessions(database: Database, without: Sequence[int] = ()) -> list[int]:
    """Return the sessions of the timers that are due longest, in order: as many as one transaction may hold gates of.

    Args:
        database: The database.
        without: Sessions whose timers are left out.
    """
    rows = await database.fetch(SQL.due_sessions, _STEP, MOST_GATES, without)
    return sorted(row["session_no"] for row in rows)


async def fire(database: Database, sessions: Sequence[int]) -> AsyncIterator[Changes]:
    """Take one step of the timers of sessions that are due. More may be due afterwards.

    Durable are the ends of tasks; promotions that a crash of the database undoes are due again.

    Args:
        database: The database.
        sessions: Numbers of the sessions, distinct, in order, ``MOST_GATES`` at most.

    Yields:
        The changes of each transaction.
    """

    async def promote(connection: Connection) -> tuple[Changes, list[int]]:
        row = await connection.fetchrow(SQL.fire_timers, sessions, _STEP)
        assert row is not None  # a function has one row
        return Changes(set(row["promoted_in"]), set(row["partitions"])), row["expiring"]

    changes, expiring = await database.transaction(promote, durable=False)
    yield changes
    if not expiring:
        return

    async def expire(connection: Connection) -> Changes:
        row = await connection.fetchrow(SQL.expire_tasks, sorted(expiring), database.turns.size)
        assert row is not None  # a function has one row
        changes = changes_of_cancelled(row)
        to_cut, changes.cuts = changes.cuts, set()
        if to_cut:
            changes.add(await cuts.go_on(connection, to_cut, database.turns.size))
        return changes

    yield await database.turns.take(database, expiring, expire)
