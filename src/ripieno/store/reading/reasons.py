"""The reason of a task's failure, put together on request.

A reason is stored once, with the task in which it arose. A task that failed because an input
was aborted stores which input that was, and which task's own end was the first cause; the
reason shown to a reader names each task between the two, if they are few.
"""

from collections.abc import Sequence
from itertools import groupby

import asyncpg

from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("lookup")

#: Links of a chain that are named one by one; of a longer chain only the first ones and the root are named.
MOST_LINKS = 8

#: Characters of a cause; a longer one is shortened in the middle.
_LONGEST_CAUSE = 4_000


async def causes(database: Database, tasks: Sequence[int]) -> dict[int, str]:
    """Return, for tasks that failed because an input was aborted, the cause down to its root, by task number."""
    if not tasks:
        return {}
    rows = await database.fetch(_SQL.causes, tasks, MOST_LINKS, _LONGEST_CAUSE)
    return {asked: _cause(list(links)) for asked, links in groupby(rows, key=lambda row: row["asked"])}


def _cause(links: Sequence[asyncpg.Record]) -> str:
    """Join the links of a chain: each input, the task that should have made it, and the reason of the last task."""
    said: list[str] = []
    for link in links:
        if link["retried_since"]:
            return ": ".join([*said, f"task {link['id']!r} failed, and was retried since"])
        if link["place"] > MOST_LINKS:
            said.append(f"[...] task {link['id']!r} ended in {as_it_ends(link).name}")
        elif link["place"] > 0:
            said.append(f"task {link['id']!r} ended in {as_it_ends(link).name}")
        if link["input"] is not None:
            said.append(f"input {link['input']!r} was aborted")
    root = links[-1]
    said.append(unmade(root["id"]) if root["status"] == TaskStatus.COMPLETED else own_reason(root) or "no reason given")
    text = ": ".join(said)
    if len(text) <= _LONGEST_CAUSE:
        return text
    half = _LONGEST_CAUSE // 2
    return f"{text[:half]} [...] {text[-half:]}"


def own_reason(row: asyncpg.Record) -> str:
    """Return the reason that arose with a task itself; empty if there is none."""
    if row["detail"]:
        return str(row["detail"])
    return "cancelled" if as_it_ends(row) is TaskStatus.CANCELLED else ""


def unmade(task_id: str) -> str:
    """Return the reason for a missing result of a task that completed."""
    return f"task {task_id!r} completed without producing it"


def as_it_ends(row: asyncpg.Record) -> TaskStatus:
    """Return the status in which a task ends, whatever the worker still does: CANCELLED for CANCELLING.

    It is TIMEOUT for a task whose deadline has passed, which has that as its reason already.
    """
    if row["status"] != TaskStatus.CANCELLING:
        return TaskStatus(row["status"])
    return TaskStatus.TIMEOUT if row["detail"] else TaskStatus.CANCELLED
