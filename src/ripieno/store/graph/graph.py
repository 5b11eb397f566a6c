"""The results of a task that ends without having made them.

A completed result promotes its dependents (``ripieno.store.graph.promotions``). An aborted result fails them, which
aborts their results, and so on: the cut (``ripieno.store.graph.cuts``).
"""

from collections.abc import Sequence

from ripieno.store.database.database import Connection
from ripieno.store.database.queries import Queries
from ripieno.store.graph.creation import Key

SQL = Queries("graph")


async def abort_outputs(connection: Connection, tasks: Sequence[int]) -> dict[Key, bool]:
    """Abort the open results that tasks own; return their keys, each with whether a task waits for it."""
    rows = await connection.fetch(SQL.abort_outputs, tasks)
    return {(row["session_no"], row["key"]): row["awaited"] for row in rows}
