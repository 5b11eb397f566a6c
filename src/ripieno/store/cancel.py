"""Cancellation: a cut of the graph, with the session's gate held exclusively.

What does not run is CANCELLED at once; what runs is CANCELLING, and becomes CANCELLED when
its agent says that the worker has let go. Results of both are aborted at once, so that
nothing that was cancelled can commit, and dependents fail.
"""

from collections.abc import Sequence

from ripieno.domain.outcomes import Ticket
from ripieno.domain.statuses import TaskStatus
from ripieno.store import graph
from ripieno.store.changes import Changes
from ripieno.store.counts import Tally
from ripieno.store.database import Connection, Database
from ripieno.store.gates import gates
from ripieno.store.queries import Queries

_SQL = Queries("cancel")
_SESSIONS = Queries("sessions")


async def cancel_session(database: Database, session_no: int) -> Changes:
    """Cancel a session and its unfinished tasks, durably. Idempotent."""

    async def write(connection: Connection) -> Changes:
        await connection.execute(_SESSIONS.cancel_sessions, session_no)
        rows = await connection.fetch(_SQL.unfinished_of_session, session_no)
        return await _cancel(connection, [row["task_no"] for row in rows])

    return await database.transaction(write, opening=gates([session_no], frozenset([session_no])))


async def cancel_tasks(database: Database, tasks: Sequence[tuple[int, int]]) -> Changes:
    """Cancel those of the tasks that are unfinished, durably. Idempotent.

    Args:
        tasks: (session number, task number) of each.
    """
    sessions = frozenset(session_no for session_no, _ in tasks)

    async def write(connection: Connection) -> Changes:
        return await _cancel(connection, sorted(task_no for _, task_no in tasks))

    return await database.transaction(write, opening=gates(sessions, sessions))


async def _cancel(connection: Connection, tasks: Sequence[int]) -> Changes:
    locked = await connection.fetch(_SQL.lock_unfinished, tasks)
    before = {row["task_no"]: TaskStatus(row["before"]) for row in locked}
    rows = await connection.fetch(_SQL.cancel_tasks, list(before))
    changes = Changes(sessions={row["session_no"] for row in rows})
    tally = Tally()
    for row in rows:
        tally.move(row["session_no"], before[row["task_no"]], TaskStatus(row["status"]))
        if row["status"] == TaskStatus.CANCELLING:
            changes.cancelled.append((row["agent_no"], Ticket(row["task_no"], row["session_no"], row["claim"])))
    await tally.write(connection)
    if rows:
        aborted = await graph.abort_outputs(connection, [(row["task_no"], None) for row in rows])
        changes.add(await graph.cut(connection, aborted))
    return changes
