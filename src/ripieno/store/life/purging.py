"""Purging: the data of a session's payloads and results goes, and what attempts have printed; the rows stay.

Results that were COMPLETED become DELETED first, then their data is deleted, then payloads and outputs. Objects
that lose their last link are noted as garbage (``store.cluster.objects``).
"""

from collections.abc import Awaitable
from functools import partial
from typing import Protocol, TypeVar

from ripieno.store.database.database import Connection, Database
from ripieno.store.life.sweep import Sweep, Turns, end, turn
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.lives import SQL

Place = TypeVar("Place", str, int)


async def purge(database: Database, sweep: Sweep) -> Turns:
    """Delete the data of a session that was purged; durable at the end.

    Yields:
        The changes of each turn.
    """
    session_no, turns = sweep.session_no, database.turns

    async def mark(connection: Connection, after: str) -> str | None:
        last: str | None = await connection.fetchval(SQL.purge_results, session_no, after, turns.size, False)
        return last

    async def drop(connection: Connection, after: str) -> str | None:
        last: str | None = await connection.fetchval(SQL.purge_results, session_no, after, turns.size, True)
        return last

    async def drop_payloads(connection: Connection, after: int) -> int | None:
        await connection.execute(SQL.purge_outputs, session_no, after, turns.size)
        last: int | None = await connection.fetchval(SQL.purge_payloads, session_no, after, turns.size)
        return last

    async for changes in _through(database, sweep, mark, ""):
        yield changes
    async for changes in _through(database, sweep, drop, ""):
        yield changes
    async for changes in _through(database, sweep, drop_payloads, 0):
        yield changes
    await end(database, sweep)


class _Work(Protocol[Place]):
    """One turn of work: goes on after a place, and returns the place that it has reached; None if nothing is left."""

    def __call__(self, connection: Connection, after: Place) -> Awaitable[Place | None]: ...


async def _through(database: Database, sweep: Sweep, work: _Work[Place], first: Place) -> Turns:
    """Take turns of some work until nothing is left."""
    after: Place | None = first
    while after is not None:
        after = await turn(database, sweep, partial(work, after=after))
        if after is not None:
            yield Changes({sweep.session_no})
