"""Marks in the log of changes, and the dropping of what is too old or too much."""

from ripieno.store.changelog.log import SQL
from ripieno.store.database.database import Database

_ROWS_AT_ONCE = 2_000


async def mark(database: Database) -> None:
    """End a stretch of the log here, if anything came since the last one. Readers far behind go mark by mark."""
    await database.fetch(SQL.mark)


async def trim(database: Database, *, age_s: float, size: int) -> int:
    """Drop whole stretches of the log that are older than ``age_s``, or that come before the newest ``size`` bytes.

    Readers who had not seen them are told before the first row goes. An interrupted call is gone on with by the next.

    Returns:
        How many rows were dropped.
    """
    row = await database.fetchrow(SQL.to_drop, age_s, size)
    if row is None or row["mark_no"] is None:
        return 0
    mark_no = row["mark_no"]
    if not await database.fetch(SQL.begin_drop, mark_no):
        return 0
    dropped = 0
    while some := len(await database.fetch(SQL.drop_some, mark_no, _ROWS_AT_ONCE)):
        dropped += some
    await database.fetch(SQL.end_drop, mark_no)
    return dropped
