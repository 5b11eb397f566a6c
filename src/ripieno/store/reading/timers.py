"""The timers of tasks: before when they do not start, and when they are ended."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("timers")


class TaskTimers(NamedTuple):
    """The timers of a task, as times of the database's clock.

    Attributes:
        starts_at: The task does not start before that; None if it does not wait for a time.
        deadline: The task is ended then; None if it has none.
    """

    starts_at: datetime | None = None
    deadline: datetime | None = None


async def timers_of(database: Database, tasks: Sequence[int]) -> dict[int, TaskTimers]:
    """Return the timers of those of the tasks with these numbers that have not ended and have any, by number."""
    found: dict[int, TaskTimers] = {}
    for row in await database.fetch(_SQL.timers_of, tasks):
        before = found.get(row["task_no"], TaskTimers())
        kept = {"starts_at": row["due_at"]} if row["kind"] == 1 else {"deadline": row["due_at"]}
        found[row["task_no"]] = before._replace(**kept)
    return found
