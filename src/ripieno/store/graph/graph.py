"""What the end of one task means for its results.

A completed result promotes its dependents (``ripieno.store.graph.promotions``). An aborted one fails them, which
aborts their results, and so on: the cut (``ripieno.store.graph.cuts``).
"""

from collections.abc import Sequence

from ripieno.store.database.database import Connection
from ripieno.store.database.queries import Queries
from ripieno.store.graph.creation import Key

SQL = Queries("graph")


async def abort_outputs(connection: Connection, tasks: Sequence[int]) -> dict[Key, bool]:
    """Abort what these tasks still own and have not completed; return the keys, each with whether somebody waits."""
    rows = await connection.fetch(SQL.abort_outputs, tasks)
    return {(row["session_no"], row["key"]): row["awaited"] for row in rows}
