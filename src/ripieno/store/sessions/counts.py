"""How many tasks are in each status, and how many bytes of data are stored, for each session (INV-12)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Connection, Database

_WRITE = """
insert into session_counts (session_no, status, delta)
select * from unnest($1::bigint[], $2::smallint[], $3::bigint[])
"""

_READ = """
select status, sum(delta)::bigint as tasks from session_counts
where session_no = any($1::bigint[]) and status > 0 group by status having sum(delta) <> 0 order by status
"""

_USAGE = """
select coalesce(sum(delta) filter (where status between 1 and 9), 0)::bigint as unfinished,
       coalesce(sum(delta) filter (where status = -1), 0)::bigint as stored
from session_counts where session_no = $1
"""

# Rows that another transaction is folding are left alone; the sum is the same either way.
_FOLD = """
with folded as (
    delete from session_counts
    where ctid = any(array(
        select ctid from session_counts where session_no = $1 limit 10000 for update skip locked))
    returning status, delta
)
insert into session_counts (session_no, status, delta)
select $1, status, sum(delta) from folded group by status having sum(delta) <> 0
"""

_CROWDED = "select session_no from session_counts {} group by session_no having count(*) > 64"
_CROWDED_OF_ALL = _CROWDED.format("")
_CROWDED_OF_SOME = _CROWDED.format("where session_no = any($1::bigint[])")


#: Stands where a status stands, for bytes of payloads and results.
_STORED_BYTES = -1


class Usage(NamedTuple):
    """What a session holds: tasks that are not final, and bytes of payloads and results."""

    unfinished: int
    stored: int


class Tally:
    """Collects what a transaction moves from status to status and what it stores, and appends it in one statement."""

    def __init__(self) -> None:
        self._deltas: Counter[tuple[int, int]] = Counter()

    def move(self, session_no: int, before: TaskStatus, after: TaskStatus) -> None:
        """One task went from ``before`` to ``after``."""
        self._deltas[session_no, before] -= 1
        self._deltas[session_no, after] += 1

    def store(self, session_no: int, size: int) -> None:
        """Count ``size`` bytes of payloads or results that the transaction stores for a session."""
        self._deltas[session_no, _STORED_BYTES] += size

    def columns(self) -> tuple[list[int], list[int], list[int]]:
        """The differences: sessions, statuses, and how many tasks more."""
        moved = [(session_no, status, delta) for (session_no, status), delta in self._deltas.items() if delta]
        return [row[0] for row in moved], [row[1] for row in moved], [row[2] for row in moved]

    async def write(self, connection: Connection) -> None:
        """Append the differences to the table."""
        columns = self.columns()
        if columns[0]:
            await connection.execute(_WRITE, *columns)


async def read_counts(database: Database, sessions: Sequence[int]) -> Mapping[TaskStatus, int]:
    """Tasks by status over these sessions; never a zero entry."""
    rows = await database.fetch(_READ, sessions)
    return {TaskStatus(row["status"]): row["tasks"] for row in rows}


async def read_usage(database: Database, session_no: int) -> Usage:
    """What a session holds."""
    row = await database.fetchrow(_USAGE, session_no)
    assert row is not None  # an aggregate always has a row
    return Usage(row["unfinished"], row["stored"])


async def fold_counts(database: Database, sessions: Sequence[int] | None = None) -> int:
    """Fold the differences of those sessions (None: of all) that have gathered many; return how many sessions."""
    if sessions is None:
        rows = await database.fetch(_CROWDED_OF_ALL)
    else:
        rows = await database.fetch(_CROWDED_OF_SOME, sessions)
    crowded = [row["session_no"] for row in rows]
    for session_no in crowded:
        await database.fetch(_FOLD, session_no)
    return len(crowded)
