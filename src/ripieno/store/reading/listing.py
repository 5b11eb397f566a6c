"""Lists of tasks of any length, read a page at a time, so that no statement and no caller holds a whole list.

Pages are read one after the other, each with a snapshot of its own. A task that existed when the list began
is listed once, since tasks are listed by number and numbers only grow. Pages of all lists share
two sessions, in turns, so that lists keep nobody else waiting.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("listing")

#: The pause after a page where the processors have no time to spare, as a multiple of what the page took.
_PAUSE = 12.0

#: The longest pause: if a page took longer than this, the machine was busy with other work.
_LONGEST_PAUSE_S = 0.5


class Page(NamedTuple):
    """A page of tasks, in the order of submission.

    Attributes:
        ids: Ids of the tasks that match; may be empty although more pages follow.
        last_no: Number of the last task that was looked at; the next page begins behind it. None at the end.
    """

    ids: Sequence[str]
    last_no: int | None


async def page_of_tasks(
    database: Database, sessions: Sequence[int], statuses: frozenset[TaskStatus] | None, after: int, most: int
) -> Page:
    """Return the next page of the tasks of some sessions.

    Args:
        database: The database.
        sessions: Numbers of the sessions.
        statuses: Statuses of the tasks to list; None lists all.
        after: Number of the task behind which the page begins; 0 for the first page.
        most: Tasks that are looked at.
    """
    wanted = None if statuses is None else [int(status) for status in statuses]
    async with database.long_lists:
        began = time.monotonic()
        row = await database.fetchrow(_SQL.page_of_tasks, sessions, after, most, wanted)
        if after:  # on later pages, others come first where the processors are busy
            pause_s = _PAUSE * database.processors.lack * (time.monotonic() - began)
            await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))
    assert row is not None  # an aggregate without groups has one row
    return Page(row["ids"], row["last_no"] if row["looked_at"] == most else None)
