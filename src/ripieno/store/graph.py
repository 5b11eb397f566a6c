"""What the end of one task means for others: promotion, and its own results' end.

A completed result promotes its dependents. An aborted one fails them, which aborts their
results, and so on: the cut (``ripieno.store.cuts``).
"""

from collections.abc import Iterable, Sequence

from ripieno.store.creation import Key, columns
from ripieno.store.database import Connection
from ripieno.store.queries import Queries

SQL = Queries("graph")


async def promote(connection: Connection, completed: Iterable[Key]) -> set[str]:
    """Phase 6 for completed keys; return the partitions in which something became claimable."""
    rows = await connection.fetch(SQL.promote, *columns(sorted(completed)))
    return {row["partition"] for row in rows}


async def abort_outputs(connection: Connection, tasks: Sequence[int]) -> dict[Key, bool]:
    """Abort what these tasks still own and have not completed; return the keys, each with whether somebody waits."""
    rows = await connection.fetch(SQL.abort_outputs, tasks)
    return {(row["session_no"], row["key"]): row["awaited"] for row in rows}
