"""Lists of task ids in one reply: read page by page, long ones one at a time, and limited in length.

Between two pages other calls have their turn. A reply that its client has not read yet stays in
memory, so all unread replies together are bounded, too: a call for a long list waits up to ten
seconds each for its turn and for room, and is then refused; that passes. ``Results.ListTaskIds``
needs neither, since it sends its pages as its client reads them.
"""

from typing import Any

import grpc.aio

from ripieno.control.calls.arrivals import Turns
from ripieno.control.calls.limits import Limit
from ripieno.domain.errors import OverloadedError
from ripieno.domain.filters import TaskFilter
from ripieno.store.database.database import Database
from ripieno.store.reading.listing import page_of_tasks
from ripieno.store.reading.lookup import matching_tasks, session_numbers
from ripieno.store.sessions.counts import read_counts
from ripieno.wire.protos.armonik_v2 import objects_pb2

Context = grpc.aio.ServicerContext[Any, Any]

#: The most tasks that one statement looks at (20 ms of PostgreSQL, 3 ms of this process).
_PAGE = 5_000
#: The most bytes of all long replies together that their clients have not read yet.
_UNREAD_BYTES = 16 * 1024 * 1024
#: Seconds that a call for a list waits for its turn, and then for room.
_PATIENCE_S = 10.0


class Listings:
    """Lists of tasks for calls that answer in one message.

    Args:
        limit: The most ids in one reply.
    """

    def __init__(self, database: Database, limit: Limit) -> None:
        self._database = database
        self._limit = limit
        self._building = Turns(1)
        self._unread = Turns(_UNREAD_BYTES)

    async def tasks(self, which: TaskFilter, context: Context) -> objects_pb2.TaskIdList:
        """Return the ids of the matching tasks in the order of submission.

        Raises:
            LimitError: if the ids are too many for one reply.
            OverloadedError: if other lists are being built, or other clients do not read theirs, for too long.
        """
        if which.task_ids is not None:
            return objects_pb2.TaskIdList(task_ids=await matching_tasks(self._database, which.task_ids, which.statuses))
        sessions = await session_numbers(self._database, which.session_ids or ())
        counts = await read_counts(self._database, sessions)
        count = sum(n for status, n in counts.items() if which.statuses is None or status in which.statuses)
        self._limit.check(count)
        if count <= _PAGE // 2:
            return await self._build(sessions, which)
        if not await self._building.take(1, _PATIENCE_S):
            raise OverloadedError(f"other lists are being built; {_WAY_OUT}")
        try:
            reply = await self._build(sessions, which)
            size = reply.ByteSize()
            if not await self._unread.take(size, _PATIENCE_S):
                raise OverloadedError(f"other clients have not read the lists that they asked for; {_WAY_OUT}")
        finally:
            self._building.give_back(1)
        context.add_done_callback(self._read(size))
        return reply

    def _read(self, size: int) -> Any:
        """Return a callback that releases a reply's room when the client has read it, or has gone."""
        return lambda _context: self._unread.give_back(size)

    async def _build(self, sessions: list[int], which: TaskFilter) -> objects_pb2.TaskIdList:
        reply = objects_pb2.TaskIdList()
        last_no: int | None = 0
        while last_no is not None:
            ids, last_no = await page_of_tasks(self._database, sessions, which.statuses, last_no, _PAGE)
            reply.task_ids.extend(ids)
            self._limit.check(len(reply.task_ids))
        return reply


_WAY_OUT = "ask again a little later, or page with ripieno.v1.Results.ListTaskIds"
