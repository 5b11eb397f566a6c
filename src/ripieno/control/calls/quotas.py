"""Quotas: how many tasks and bytes each session may hold, checked before its tasks are written.

A session has room for a number of unfinished tasks and of bytes of data. A replica takes a part
of that room at a time, lets submissions in as long as the part lasts, and asks the database what the
session really holds only when it is used up. So a submission costs no statement as a rule, and a session
may hold a little more than its limit: what the replicas have taken meanwhile, a 64th (or one call) each.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from ripieno.control.calls.limits import ControlLimits, Limit
from ripieno.domain.data import StoredObject
from ripieno.domain.errors import OverloadedError
from ripieno.domain.submission import NewTask
from ripieno.store.database.database import Database
from ripieno.store.sessions.counts import read_usage

#: A replica takes a 64th of a session's limit at a time.
_PART = 64

#: The most sessions whose room is remembered; one that was forgotten begins with a new part.
_MOST_SESSIONS = 10_000


@dataclass(slots=True)
class _Room:
    tasks: int
    size: int


class Quotas:
    """The parts of sessions' room that this replica has taken."""

    def __init__(self, limits: ControlLimits, database: Database) -> None:
        self._tasks = limits.unfinished_per_session
        self._bytes = limits.bytes_per_session
        self._database = database
        self._rooms: OrderedDict[int, _Room] = OrderedDict()
        database.on_new_incarnation.append(self._rooms.clear)

    async def refusal(self, session_no: int, tasks: int, size: int) -> OverloadedError | None:
        """Take room for new tasks, or return the error that says why there is none; then nothing is taken.

        Args:
            size: Bytes of the tasks' payloads.

        Returns:
            None if the room was taken; a ``LimitError`` where only the caller can make room; another
            ``OverloadedError`` where time does.

        Raises:
            UnavailableError: if the database cannot be asked.
        """
        room = self._rooms.get(session_no)
        if room is None:
            # The first part is taken without asking the database.
            room = self._rooms[session_no] = _Room(_part(self._tasks), _part(self._bytes))
            if len(self._rooms) > _MOST_SESSIONS:
                self._rooms.popitem(last=False)
        if room.tasks < tasks or room.size < size:
            usage = await read_usage(self._database, session_no)
            if usage.unfinished + tasks > self._tasks.value:
                return OverloadedError(self._tasks.refusal(f"{tasks:,} beside {usage.unfinished:,}"))
            if usage.stored + size > self._bytes.value:
                return self._bytes.refused(f"{size:,} beside {usage.stored:,}")
            room.tasks = min(self._tasks.value - usage.unfinished, max(tasks, _part(self._tasks)))
            room.size = min(self._bytes.value - usage.stored, max(size, _part(self._bytes)))
        room.tasks -= tasks
        room.size -= size
        return None

    async def admit(self, session_no: int, tasks: int, size: int) -> None:
        """Take room for new tasks as ``refusal`` does, but raise the error if there is none.

        Raises:
            LimitError, OverloadedError: if there is no room.
            UnavailableError: if the database cannot be asked.
        """
        if refusal := await self.refusal(session_no, tasks, size):
            raise refusal


def payload_bytes(tasks: Iterable[NewTask]) -> int:
    """Return the bytes of the payloads of tasks, inline and in the object store."""
    return sum([task.payload.size if isinstance(task.payload, StoredObject) else len(task.payload) for task in tasks])


def _part(limit: Limit) -> int:
    return max(1, limit.value // _PART)
