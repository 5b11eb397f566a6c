"""What the end of one task means for others: promotion, and the cut.

A completed result promotes its dependents. An aborted one fails them, which aborts their
results, and so on: the cut. It goes down level by level, so its cost is one round of
statements for each level, not for each task. It needs the session's gate exclusively.
"""

from collections.abc import Iterable, Sequence

import asyncpg

from ripieno.domain.statuses import TaskStatus
from ripieno.store.changes import Changes
from ripieno.store.counts import Tally
from ripieno.store.creation import Key, columns
from ripieno.store.database import Connection
from ripieno.store.queries import Queries

SQL = Queries("graph")

#: A cause is told down to its root; in between it may be shortened to this many characters.
_LONGEST_CAUSE = 4_000


async def promote(connection: Connection, completed: Iterable[Key]) -> set[str]:
    """Phase 6 for completed keys; return the partitions in which something became claimable."""
    rows = await connection.fetch(SQL.promote, *columns(sorted(completed)))
    return {row["partition"] for row in rows}


async def sessions_with_dependents(connection: Connection, aborted: Iterable[Key]) -> set[int]:
    """Those sessions in which somebody waits for these keys."""
    rows = await connection.fetch(SQL.sessions_with_dependents, *columns(sorted(aborted)))
    return {row["session_no"] for row in rows}


async def abort_outputs(connection: Connection, tasks: Sequence[tuple[int, str | None]]) -> set[Key]:
    """Abort what these tasks still own, each with a reason (None: the task's own detail says it)."""
    rows = await connection.fetch(SQL.abort_outputs, [number for number, _ in tasks], [why for _, why in tasks])
    return {(row["session_no"], row["key"]) for row in rows}


async def cut(connection: Connection, aborted: Iterable[Key]) -> Changes:
    """Fail whoever waits for aborted keys, and abort their results, down to the leaves."""
    changes = Changes()
    tally = Tally()
    level = set(aborted)
    while level:
        changes.add_aborted(level)
        waiting = await connection.fetch(SQL.dependents, *columns(sorted(level)))
        failed = await connection.fetch(
            SQL.fail_dependents, [row["task_no"] for row in waiting], [_cause(row) for row in waiting]
        )
        for row in failed:
            tally.move(row["session_no"], TaskStatus.SUBMITTED, TaskStatus.ERROR)
            changes.sessions.add(row["session_no"])
        level = await abort_outputs(connection, [(row["task_no"], None) for row in failed]) if failed else set()
    await tally.write(connection)
    return changes


def _cause(row: asyncpg.Record) -> str:
    """Names the key, the task that should have made it, and that task's own reason."""
    status = TaskStatus(row["owner_status"])
    if status is TaskStatus.CANCELLING:
        status = TaskStatus.CANCELLED  # its worker has yet to let go, but this is how it ends
    ended = f"task {row['owner_id']!r} ended in {status.name}: {row['cause'] or 'no reason given'}"
    text = f"input {row['key']!r} was aborted: {ended}"
    if len(text) <= _LONGEST_CAUSE:
        return text
    half = _LONGEST_CAUSE // 2
    return f"{text[:half]} [...] {text[-half:]}"
