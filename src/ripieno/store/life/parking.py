"""Parking: while a session is paused, no task of it is claimed.

Its tasks that an agent may be given, now or later, stand under a partition that no agent serves (``PARKED_PARTITION``).
All else goes on: promotions, retries, cuts and cancellations look at the status of a task and leave its partition
alone, and lists read the partition of its options.

Once the session is marked as paused, in a transaction that has its gate exclusively, whoever adds a task to it, holding
the gate, writes it parked; and whoever gives an attempt back parks its task. What was there before is parked by a sweep:

1. what agents hold, as one look after the mark sees it;
2. what waits, by number.

An attempt that is claimed between the two is held, and is parked when it comes back. One that was being given back when
the look was taken may have seen the session as it was before: the sweep waits for the lock of its row. Resuming takes
the same way back.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ripieno.store.database.database import Connection, Database
from ripieno.store.life.sweep import Kind, Sweep, Turns, end, turn
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.lives import SQL


class _Page(NamedTuple):
    """The waiting tasks that a turn has looked at: the last number, and whether there are more."""

    changes: Changes
    last_no: int
    more: bool


async def park(database: Database, sweep: Sweep) -> Turns:
    """Park the tasks of a session that was paused, or put them back; durable at the end.

    Yields:
        The changes of each turn: the partitions in which tasks have become claimable.
    """
    parks = sweep.kind is Kind.PARK
    rows = await database.fetch(SQL.held_to_park, sweep.session_no)
    held = [row["task_no"] for row in rows]
    goes_on = False
    while held:
        some = held[: database.turns.size]

        async def move(connection: Connection, numbers: Sequence[int] = some) -> Changes:
            return await _move(connection, sweep.session_no, numbers, parks=parks)

        changes = await turn(database, sweep, move, goes_on=goes_on)
        goes_on = True
        if changes is None:
            return
        yield changes
        held = held[len(some) :]
    page: _Page | None = _Page(Changes(), 0, more=True)
    while page is not None and page.more:

        async def look(connection: Connection, after: int = page.last_no) -> _Page:
            return await _page(connection, sweep, after, database.turns.size)

        page = await turn(database, sweep, look, goes_on=goes_on)
        if page is not None:
            yield page.changes
        goes_on = True
    await end(database, sweep)


async def _page(connection: Connection, sweep: Sweep, after: int, size: int) -> _Page:
    parks = sweep.kind is Kind.PARK
    found = await connection.fetchrow(SQL.waiting_to_park, sweep.session_no, after, sweep.newest_task, size, parks)
    assert found is not None  # an aggregate always has a row
    changes = await _move(connection, sweep.session_no, found["numbers"], parks=parks)
    return _Page(changes, found["last_no"] or after, found["looked_at"] == size)


async def _move(connection: Connection, session_no: int, numbers: Sequence[int], *, parks: bool) -> Changes:
    if not numbers:
        return Changes()
    return Changes({session_no}, set(await connection.fetchval(SQL.park_numbered, numbers, parks)))
