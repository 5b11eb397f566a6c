"""Counts of each session: tasks by status, and bytes of stored data (INV-12)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.queries import Queries

_SQL = Queries("counts")
_READ = _SQL.counts_of_sessions

#: Stands in place of a status for bytes of payloads and results.
_STORED_BYTES = -1


class Usage(NamedTuple):
    """The usage of a session: tasks that are not final, and stored bytes of payloads and results."""

    unfinished: int
    stored: int


class Tally:
    """Collects the changes of counts that a transaction makes, and appends them in one statement."""

    def __init__(self) -> None:
        self._deltas: Counter[tuple[int, int]] = Counter()

    def move(self, session_no: int, before: TaskStatus, after: TaskStatus) -> None:
        """Count one task of a session that goes from status ``before`` to ``after``."""
        self._deltas[session_no, before] -= 1
        self._deltas[session_no, after] += 1

    def store(self, session_no: int, size: int) -> None:
        """Count ``size`` bytes of payloads or results that the transaction stores for a session."""
        self._deltas[session_no, _STORED_BYTES] += size

    def columns(self) -> tuple[list[int], list[int], list[int]]:
        """Return the differences as three columns: sessions, statuses, and how many tasks (or bytes) more."""
        moved = [(session_no, status, delta) for (session_no, status), delta in self._deltas.items() if delta]
        return [row[0] for row in moved], [row[1] for row in moved], [row[2] for row in moved]

    async def write(self, connection: Connection) -> None:
        """Append the differences to the table ``session_counts``."""
        columns = self.columns()
        if columns[0]:
            await connection.execute(_SQL.append_counts, *columns)


async def read_counts(database: Database, sessions: Sequence[int]) -> Mapping[TaskStatus, int]:
    """Return how many tasks of all these sessions are in each status; statuses without tasks are left out."""
    rows = await database.fetch(_READ, sessions)
    return {TaskStatus(row["status"]): row["tasks"] for row in rows}


async def read_usage(database: Database, session_no: int) -> Usage:
    """Return the usage of a session."""
    row = await database.fetchrow(_SQL.usage, session_no)
    assert row is not None  # an aggregate always has a row
    return Usage(row["unfinished"], row["stored"])


async def fold_counts(database: Database, sessions: Sequence[int] | None = None) -> int:
    """Fold the differences of those sessions (None: of all) that have more than 64; return how many were folded."""
    if sessions is None:
        rows = await database.fetch(_SQL.crowded_of_all)
    else:
        rows = await database.fetch(_SQL.crowded_of_some, sessions)
    crowded = [row["session_no"] for row in rows]
    for session_no in crowded:
        await database.fetch(_SQL.fold, session_no)
    return len(crowded)
