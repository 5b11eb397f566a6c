"""Updates of attempts that agents hold: they have begun, are released, or are being interrupted."""

from collections.abc import Sequence

from ripieno.domain.options import PARKED_PARTITION
from ripieno.domain.outcomes import Ticket
from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.queries import Queries
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.counts import Tally

_SQL = Queries("commit")


async def mark_started_if_owned(database: Database, started: Sequence[tuple[Ticket, int, str]]) -> Changes:
    """Set tasks from DISPATCHED to PROCESSING whose attempts have begun.

    A crash of the database may undo it; an attempt's outcome reports the start again. Attempts that own their task
    no more are ignored.

    Args:
        database: The database.
        started: Ticket, start (microseconds since the epoch) and worker of each attempt.
    """
    ordered = sorted(started, key=lambda each: each[0].task_no)

    async def write(connection: Connection) -> Changes:
        tally = Tally()
        rows = await connection.fetch(
            _SQL.mark_started_if_owned,
            [ticket.task_no for ticket, _, _ in ordered],
            [ticket.claim for ticket, _, _ in ordered],
            [at_us for _, at_us, _ in ordered],
            [worker for _, _, worker in ordered],
        )
        for row in rows:
            tally.move(row["session_no"], TaskStatus.DISPATCHED, TaskStatus.PROCESSING)
        await tally.write(connection)
        return Changes(sessions={row["session_no"] for row in rows})

    return await database.transaction(write, durable=False)


async def mark_interrupting_if_owned(database: Database, tickets: Sequence[Ticket]) -> Changes:
    """Note that cancelled attempts had begun and are being interrupted; others among the tickets are ignored."""
    ordered = sorted(tickets, key=lambda ticket: ticket.task_no)
    rows = await database.fetch(
        _SQL.mark_interrupting_if_owned,
        [ticket.task_no for ticket in ordered],
        [ticket.claim for ticket in ordered],
    )
    return Changes(sessions={row["session_no"] for row in rows})


async def release_if_owned(database: Database, tickets: Sequence[Ticket]) -> tuple[Changes, list[Ticket]]:
    """Give attempts back, so that their tasks are claimable again under the same attempt number.

    Returns:
        The changes, and the tickets that were not released because they own their
        task no more or because it is being cancelled.
    """
    ordered = sorted(tickets, key=lambda ticket: ticket.task_no)

    async def write(connection: Connection) -> tuple[Changes, list[Ticket]]:
        tally = Tally()
        rows = await connection.fetch(
            _SQL.lock_to_release, [ticket.task_no for ticket in ordered], [ticket.claim for ticket in ordered]
        )
        for row in rows:
            tally.move(row["session_no"], TaskStatus(row["before"]), TaskStatus.SUBMITTED)
        released = {row["task_no"] for row in rows}
        claimable = await connection.fetch(_SQL.release_locked, sorted(released)) if released else []
        await tally.write(connection)
        partitions = {row["partition"] for row in claimable} - {PARKED_PARTITION}
        changes = Changes({row["session_no"] for row in rows}, partitions)
        return changes, [ticket for ticket in ordered if ticket.task_no not in released]

    return await database.transaction(write)
