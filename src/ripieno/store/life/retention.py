"""Retention: sessions that ended long ago are purged, and deleted later, one after the other.

A session has ended when it is closed, cancelled or purged, and none of its tasks is unfinished. When that is so
is noted at a look (``note_ended``), and is as exact as looks are frequent. Sessions that run or are paused stay, however
old they are: they may get tasks at any time.

One replica at a time does this work (``alone``). Each session takes some short turns; see ``store.life.sweep``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from ripieno.domain.errors import NotFoundError, SessionStepError, UnavailableError
from ripieno.domain.statuses import SessionStatus, SessionStep
from ripieno.store.database.database import Database
from ripieno.store.database.pool import Pool
from ripieno.store.life.lives import follow, take
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.lives import SQL

#: Sessions that one statement finds.
_AT_ONCE = 1_000

#: Status -> from which a step of retention is taken.
_FROM = {
    SessionStep.PURGE: (SessionStatus.CLOSED, SessionStatus.CANCELLED),
    SessionStep.DELETE: (SessionStatus.CLOSED, SessionStatus.CANCELLED, SessionStatus.PURGED),
}


@asynccontextmanager
async def alone(session: Pool) -> AsyncIterator[bool]:
    """Yield whether nobody else looks after retention until the block ends.

    Args:
        session: A session on the database for this alone; should it break, another replica may begin beside this one,
            which does no harm.
    """
    async with session.acquire() as connection:
        ours = bool(await connection.fetchval(SQL.try_retention))
        try:
            yield ours
        finally:
            if ours:
                with suppress(UnavailableError):  # the lock went with the session
                    await connection.execute(SQL.end_retention)


async def note_ended(database: Database) -> None:
    """Note which sessions have ended since the last look."""
    while len(await database.fetch(SQL.note_ended, _AT_ONCE)) == _AT_ONCE:
        pass


async def retain(database: Database, step: SessionStep, after_s: float) -> AsyncIterator[Changes]:
    """Purge, or delete, the sessions that ended more than ``after_s`` seconds ago.

    Yields:
        The changes of each transaction.
    """
    found = _AT_ONCE
    while found == _AT_ONCE:
        rows = await database.fetch(SQL.ended_before, [int(status) for status in _FROM[step]], after_s, _AT_ONCE)
        found = len(rows)
        for row in rows:
            try:
                changes, sweep = await take(database, row["session_no"], step)
            except SessionStepError:  # tasks of it were retried meanwhile
                await database.fetch(SQL.not_ended, row["session_no"])
                continue
            except NotFoundError:  # somebody has deleted it
                continue
            yield changes
            if sweep is not None:
                async for more in follow(database, sweep):
                    yield more


async def forget_deleted(database: Database) -> None:
    """Let the ids come back of sessions that were deleted more than a year ago."""
    await database.fetch(SQL.forget_deleted)
