"""How far attempts that run have come, kept for those who follow them; a crash may forget it."""

from collections.abc import Sequence

from ripieno.domain.outcomes import Ticket
from ripieno.domain.progress import Progress
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("progress")


async def keep_progress(database: Database, progress: Sequence[tuple[Ticket, Progress]]) -> None:
    """Keep how far these attempts have come; of one that is named twice, what comes last."""
    latest = {ticket.claim: (ticket, each) for ticket, each in progress}.values()
    await database.fetch(
        _SQL.keep_progress,
        [ticket.claim for ticket, _ in latest],
        [ticket.session_no for ticket, _ in latest],
        [ticket.task_no for ticket, _ in latest],
        [each.fraction for _, each in latest],
        [each.text for _, each in latest],
    )


async def forget_progress(database: Database, after_s: float) -> None:
    """Drop what was not written again for ``after_s`` seconds."""
    await database.fetch(_SQL.forget_progress, after_s)
