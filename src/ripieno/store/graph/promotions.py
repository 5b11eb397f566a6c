"""Promotions: a completed result is met for all who wait for it, step by step if they are many.

A transaction that completes a result promotes its first dependents itself. Where very many wait
for one result, those whom it has not reached are noted in the table ``pending_promotions`` in the
same transaction, and are promoted in further short transactions by the replica that began; if
that one is gone, by another one (``store.graph.abandoned``). A task that no step has reached waits
meanwhile; nobody is added to those who wait for a completed result.
"""

from collections.abc import Iterable

import asyncpg

from ripieno.store.database.database import Connection, Database
from ripieno.store.graph.creation import Key, columns
from ripieno.store.graph.graph import SQL
from ripieno.store.sessions.changes import Changes

#: Dependents that a transaction promotes on the side of other work, and those that a step promotes: some 25 ms.
_ON_THE_SIDE = 500
_STEP = 1_000


async def begin(connection: Connection, completed: Iterable[Key]) -> Changes:
    """Phase 6 for completed keys: promote the first of those who wait, and note the others."""
    row = await connection.fetchrow(SQL.promote_some, *columns(sorted(completed)), _ON_THE_SIDE)
    return _changes(row)


async def step(database: Database, session_no: int) -> Changes:
    """Take one step in a session; ``Changes.promotions`` says whether more is left to do.

    A crash of the database may forget it, and then it is done again. It holds the gate of the session
    shared, so that others come through beside it.
    """

    async def write(connection: Connection) -> Changes:
        changes = _changes(await connection.fetchrow(SQL.promote_pending, session_no, _STEP))
        changes.sessions.add(session_no)
        return changes

    return await database.transaction(write, durable=False)


def _changes(row: asyncpg.Record | None) -> Changes:
    assert row is not None  # a function has one row
    return Changes(partitions=set(row["partitions"]), promotions=set(row["unfinished"]))
