"""Deletion of the data of results; their rows stay, with the status DELETED and the size that they had.

Data is deleted in short turns that have the session for themselves (``store.database.turns``). Tasks that wait for the
session's turn and need the data fail, by a cut that starts from the deleted result; a task that is not found so (it is held
by an agent, or stands behind very many others) fails when its input is fetched for it, and is not tried again. What an agent
has fetched already it goes on with.
"""

from collections.abc import AsyncIterator, Sequence

from ripieno.store.database.database import Connection, Database
from ripieno.store.database.queries import Queries
from ripieno.store.graph import cuts
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import KnownSession

_SQL = Queries("results")

#: Results whose data is deleted in one step, and waiting tasks that are looked at in it (some 10 ms).
_KEYS_AT_ONCE = 200
_TASKS_LOOKED_AT = 2_000


async def delete_data(
    database: Database, session: KnownSession, keys: Sequence[str]
) -> AsyncIterator[tuple[list[str], Changes]]:
    """Delete the data of those of the results that are COMPLETED, durably at the end. Idempotent.

    Yields:
        For each step the keys whose data it has deleted, and the changes.
    """
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), _KEYS_AT_ONCE):
        part = distinct[start : start + _KEYS_AT_ONCE]

        async def write(connection: Connection, part: Sequence[str] = part) -> tuple[list[str], Changes]:
            row = await connection.fetchrow(_SQL.delete_data, session.session_no, part, _TASKS_LOOKED_AT)
            assert row is not None  # a function has one row
            changes = Changes()
            if row["deleted"]:
                changes.sessions.add(session.session_no)
                changes.gone.add(session.session_no)  # whoever keeps data of the session in memory drops it
            if row["cuts"]:
                changes.add(await cuts.go_on(connection, [session.session_no], database.turns.size))
            return row["deleted"], changes

        yield await database.turns.take(
            database, [session.session_no], write, goes_on=start > 0, incarnation=session.incarnation
        )
