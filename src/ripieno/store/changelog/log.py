"""``ChangeLog``: reads what transactions have appended to the log of changes.

Numbers are drawn before transactions commit, so a row may become visible after rows with higher numbers.
Therefore a cursor is a snapshot: a batch holds what a later snapshot sees and the cursor's does not, and each row is
in one batch exactly. Within a batch rows are in the order of their numbers; two about one task are in the order of
their commits, since the second was numbered after the lock of the first had been released.

Nothing is told before it is safe on the disk: a claim does not wait for the disk, and if a crash undid one that was
told already, the number of its transaction would be given out again, and the reader would miss what the second one did.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from ripieno.store.changelog.cursors import Cursor
from ripieno.store.changelog.snapshots import Snapshot
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

SQL = Queries("changelog")

#: Rows of the log that are read at once, and changes in them after which the batch ends (with the row at hand).
_ROWS = 64
_CHANGES = 1_000

#: How often it is looked whether the server has written what was read. It does so within 0.6 s by itself.
_FLUSHED_EVERY_S = 0.01


class DroppedError(Exception):
    """What follows a cursor is not in the log (any more); the text says why."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of the log.

    Attributes:
        rows: Rows of the table ``changes``, by number.
        cursor: The place behind them.
        complete: Whether there is nothing more that the snapshot of the last statement saw.
    """

    rows: Sequence[asyncpg.Record]
    cursor: Cursor
    complete: bool


@dataclass(frozen=True, slots=True)
class Touched:
    """Sessions that were changed between two looks at the log.

    Attributes:
        before: The snapshot of the first look, as text.
        seen: That of the second one.
        sessions: Numbers of the sessions.
    """

    before: str
    seen: str
    sessions: frozenset[int]


class ChangeLog:
    """Reads the log of changes of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> Cursor:
        """Return the place behind all that is committed now."""
        row = await self._database.fetchrow(SQL.origin)
        assert row is not None  # no condition, one row
        await self.flushed(row["written"])
        return Cursor(row["origin"], row["seen"])

    async def check(self, cursor: Cursor) -> None:
        """Make sure that a cursor is from this database.

        Raises:
            DroppedError: it is not.
        """
        row = await self._database.fetchrow(SQL.origin)
        assert row is not None  # no condition, one row
        if row["origin"] != cursor.origin:
            raise DroppedError("the cursor is from another database, or from before it was restored or failed over")

    async def read(self, cursor: Cursor, sessions: Sequence[int] | None) -> Batch:
        """Return the next changes of some sessions (None: of all) behind a cursor; none if there are no more.

        Raises:
            DroppedError: changes behind the cursor were dropped, being too old or too many.
        """
        rows = await self._database.fetch(SQL.batch, cursor.seen, cursor.upto or None, cursor.after_no, _ROWS, sessions)
        first, seen = rows[0], Snapshot.parse(cursor.seen)  # the left join yields a row in any case
        if seen.next > first["next_transaction"]:
            raise DroppedError("the cursor is from a later state of the database than the present one")
        if first["dropped"] is not None and not seen.sees_all_of(Snapshot.parse(first["dropped"])):
            raise DroppedError("the cursor is too old: changes behind it were dropped from the log")
        await self.flushed(first["written"])
        upto: str = first["upto"]
        found = [row for row in rows if row["change_no"] is not None]
        kept = _until(found, _CHANGES)
        if len(kept) < len(found) or len(found) == _ROWS:
            return Batch(kept, Cursor(cursor.origin, cursor.seen, upto, kept[-1]["change_no"]), complete=False)
        return Batch(kept, Cursor(cursor.origin, upto), complete=first["last"])

    async def touched(self, seen: str) -> Touched:
        """Return the sessions that have changed since a snapshot, and the present snapshot."""
        row = await self._database.fetchrow(SQL.touched, seen)
        assert row is not None  # no condition, one row
        await self.flushed(row["written"])
        return Touched(seen, row["upto"], frozenset(row["sessions"]))

    async def flushed(self, written: str) -> None:
        """Return once the server's log is on the disk up to a position in it."""
        while not await self._is_flushed(written):  # noqa: ASYNC110 - the server does not tell by itself
            await asyncio.sleep(_FLUSHED_EVERY_S)

    async def _is_flushed(self, written: str) -> bool:
        row = await self._database.fetchrow(SQL.flushed, written)
        assert row is not None  # no condition, one row
        flushed: bool = row["flushed"]
        return flushed


def _until(rows: Sequence[asyncpg.Record], most: int) -> Sequence[asyncpg.Record]:
    """Return the first rows, up to the one with which they hold ``most`` changes."""
    changes = 0
    for place, row in enumerate(rows, 1):
        changes += max(len(row["task_nos"] or ()), len(row["keys"] or ()), 1)
        if changes >= most:
            return rows[:place]
    return rows
