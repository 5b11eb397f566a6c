"""``Submissions``: sends tasks that callers have queued, all that gathered meanwhile in the next call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from ripieno.client import AlreadyExistsError, Session, TaskDefinition, TaskOptions, UnavailableError
from ripieno.functions.calling.future import Future

#: Most tasks that one turn takes.
A_TURN = 4_000
#: Callers wait while more than so many bytes are queued.
QUEUED_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Queued:
    """A task that is to be submitted.

    Attributes:
        futures: The futures of its result.
        joins: Whether a task of that id that exists already is taken for this one.
    """

    definition: TaskDefinition
    options: TaskOptions | None
    futures: Sequence[Future[object]]
    joins: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes that it holds while it is queued."""
        payload = self.definition.payload
        return len(payload) if isinstance(payload, bytes) else 0


class Submissions:
    """The queue of tasks to submit. Callers of any thread add to it and do not wait for the cluster.

    Args:
        session: The session that the tasks go to.
        accepted: Called on the client's loop with tasks that are durable.
        refused: Called there with tasks that were not accepted, and why.
    """

    def __init__(
        self,
        session: Session,
        accepted: Callable[[Sequence[Queued]], None],
        refused: Callable[[Sequence[Queued], BaseException], None],
    ) -> None:
        self._under_way = 0
        self._session = session
        self._accepted = accepted
        self._refused = refused
        self._queued: deque[Queued] = deque()
        self._size = 0
        self._changed = threading.Condition()
        #: Whoever sends what is queued; None while nothing is.
        self._sender: object | None = None

    def add(self, tasks: Sequence[Queued], *, may_wait: bool) -> None:
        """Queue tasks; with ``may_wait``, wait first while very much is queued.

        Raises:
            RuntimeError: the client is closed.
        """
        with self._changed:
            while may_wait and self._size > QUEUED_BYTES and self._sender is not None:
                self._changed.wait()
            self._queued.extend(tasks)
            self._size += sum([task.size_bytes for task in tasks])
            if self._sender is not None or not self._queued:
                return
            sender = self._sender = object()
        try:
            sending = self._session.bridge.start(self._send())
        except BaseException:
            self._give_up(sender)
            raise
        sending.add_done_callback(lambda _: self._give_up(sender))

    @property
    def pending(self) -> int:
        """About how many tasks are queued or under way."""
        return len(self._queued) + self._under_way

    def flush(self) -> None:
        """Wait until all that was added before has been accepted or refused."""
        with self._changed:
            while self._sender is not None:
                self._changed.wait()

    async def _send(self) -> None:
        while batch := self._next():
            await self._send_batch(batch)

    def _give_up(self, sender: object) -> None:
        """Refuse what is queued if the sender ended without having sent all, as it does when the client is closed."""
        with self._changed:
            if self._sender is not sender:
                return
            left = list(self._queued)
            self._queued.clear()
            self._size = 0
            self._sender = None
            self._changed.notify_all()
        self._refused(left, RuntimeError("the cluster was closed before the task was submitted"))

    def _next(self) -> list[Queued]:
        """Take the next tasks with equal options; none ends the sending, under the same lock."""
        with self._changed:
            self._under_way = 0
            if not self._queued:
                self._sender = None
                self._changed.notify_all()
                return []
            options = self._queued[0].options
            batch = list(takewhile(lambda task: task.options == options, islice(self._queued, A_TURN)))
            for task in batch:
                self._queued.popleft()
                self._size -= task.size_bytes
            self._under_way = len(batch)
            self._changed.notify_all()
            return batch

    async def _send_batch(self, batch: Sequence[Queued]) -> None:
        wanted = [task for task in batch if not task.futures or not all(each.cancelled() for each in task.futures)]
        if not wanted:
            return
        try:
            await self._session.target.submit_many([task.definition for task in wanted], task_options=wanted[0].options)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the futures' to raise
            await self._send_one_by_one(wanted, error)
        except BaseException:
            self._refused(wanted, RuntimeError("the cluster was closed while the task was submitted"))
            raise
        else:
            self._accepted(wanted)

    async def _send_one_by_one(self, batch: Sequence[Queued], error: Exception) -> None:
        """Find out which tasks of a call are refused: their ids are ours, so what was accepted may be sent again."""
        if len(batch) == 1 and isinstance(error, AlreadyExistsError) and batch[0].joins:
            self._accepted(batch)
        elif len(batch) == 1 or isinstance(error, UnavailableError):
            self._refused(batch, error)
        else:
            half = len(batch) // 2
            for part in (batch[:half], batch[half:]):
                await self._send_batch(part)
