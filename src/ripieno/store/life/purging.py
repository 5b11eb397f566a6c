"""Purging: the data of a session's payloads and results goes, and what attempts have printed; the rows stay.

Results that were COMPLETED become DELETED, page by page, and their data is deleted with it; then payloads and outputs.
Objects that lose their last link are noted as garbage (``store.cluster.objects``).
"""

from ripieno.store.database.database import Connection, Database
from ripieno.store.life.pace import Pace
from ripieno.store.life.sweep import Sweep, Turns, end, paced_turn
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.lives import SQL


async def purge(database: Database, sweep: Sweep) -> Turns:
    """Delete the data of a session that was purged; durable at the end.

    Yields:
        The changes of each turn.
    """
    pace = Pace(database.processors)
    key: str | None = ""
    while key is not None:

        async def purge_results(connection: Connection, after: str = key) -> str | None:
            last: str | None = await connection.fetchval(SQL.purge_page, sweep.session_no, after, pace.size)
            return last

        key = await paced_turn(database, sweep, purge_results, pace)
        yield Changes({sweep.session_no})
    number: int | None = 0
    while number is not None:

        async def purge_payloads(connection: Connection, after: int = number) -> int | None:
            size = pace.size
            await connection.execute(SQL.purge_outputs, sweep.session_no, after, size)
            last: int | None = await connection.fetchval(SQL.purge_payloads, sweep.session_no, after, size)
            return last

        number = await paced_turn(database, sweep, purge_payloads, pace)
        yield Changes({sweep.session_no})
    await end(database, sweep)
