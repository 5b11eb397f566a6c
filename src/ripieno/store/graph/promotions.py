"""Promotions: tasks that wait for a completed result wait for it no more, step by step if they are many.

A transaction that completes a result promotes its first dependents itself. If very many tasks wait
for one result, those that it has not reached are noted in the table ``pending_promotions`` in the
same transaction, and are promoted in further short transactions by the replica that began, or by
another replica if that one has ended (``store.graph.abandoned``). A task that no step has reached waits
meanwhile; no task is added to those that wait for a completed result.
"""

from collections.abc import Iterable

import asyncpg

from ripieno.domain.options import PARKED_PARTITION
from ripieno.store.database.database import Connection, Database
from ripieno.store.graph.creation import Key, columns
from ripieno.store.graph.graph import SQL
from ripieno.store.sessions.changes import Changes

#: Dependents that a transaction promotes beside other work, and those that a step promotes (some 25 ms).
_ON_THE_SIDE = 500
_STEP = 1_000


async def begin(connection: Connection, completed: Iterable[Key]) -> Changes:
    """Promote the first dependents of completed keys, and note the others: phase 6 of ``ripieno.store``."""
    row = await connection.fetchrow(SQL.promote_some, *columns(sorted(completed)), _ON_THE_SIDE)
    return _changes(row)


async def step(database: Database, session_no: int) -> Changes:
    """Take one step of the promotions of a session; ``Changes.promotions`` says whether more is left to do.

    A crash of the database may undo the step, which is then done again. The step holds the gate of the session
    shared, so that other transactions run beside it.
    """

    async def write(connection: Connection) -> Changes:
        changes = _changes(await connection.fetchrow(SQL.promote_pending, session_no, _STEP))
        changes.sessions.add(session_no)
        return changes

    return await database.transaction(write, durable=False)


def _changes(row: asyncpg.Record | None) -> Changes:
    assert row is not None  # a function has one row
    partitions = set(row["partitions"]) - {PARKED_PARTITION}
    return Changes(partitions=partitions, promotions=set(row["unfinished"]))
