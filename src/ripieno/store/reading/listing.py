"""Lists of any length, a page at a time: no statement holds them whole, and its caller need not.

Pages are read one after the other, each as of its moment. What was there when the list began
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

#: And the longest one: a page that took long found the machine busy with other work.
_LONGEST_PAUSE_S = 0.5


class Page(NamedTuple):
    """Tasks in the order of submission.

    Attributes:
        ids: Of those that match; there may be none although more pages follow.
        last_no: The number of the last task that was looked at: the next page begins behind it. None at the end.
    """

    ids: Sequence[str]
    last_no: int | None


async def page_of_tasks(
    database: Database, sessions: Sequence[int], statuses: frozenset[TaskStatus] | None, after: int, most: int
) -> Page:
    """The next tasks of some sessions behind the one with a number, those in certain statuses or all.

    Args:
        after: 0 for the first page.
        most: How many are looked at.
    """
    wanted = None if statuses is None else [int(status) for status in statuses]
    async with database.long_lists:
        began = time.monotonic()
        row = await database.fetchrow(_SQL.page_of_tasks, sessions, after, most, wanted)
        if after:  # a list goes on: others first, where the processors are busy
            pause_s = _PAUSE * database.processors.lack * (time.monotonic() - began)
            await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))
    assert row is not None  # an aggregate without groups has one row
    return Page(row["ids"], row["last_no"] if row["looked_at"] == most else None)
