"""Sending tasks: many small ones to a call, large ones as streams, a few calls at a time.

Each call is atomic: all of its tasks come to exist, or none. A submission that takes
several calls is not atomic as a whole: more than 1,000 tasks, 2 MiB or 10,000 keys (expected
outputs and dependencies), large payloads, or more than the server's limits of a call.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ripieno.client.connection.connection import Connection
from ripieno.client.connection.cutting import in_pieces
from ripieno.client.submitting.keyed_submission import KeyedTasks
from ripieno.client.submitting.large_submission import LargeTasks, PreparedTask, check_accepted
from ripieno.client.submitting.payloads import normal_payload
from ripieno.client.terms.definitions import Payload, TaskDefinition, TaskOptions
from ripieno.client.terms.handles import ResultHandle, TaskHandle, checked_name, keys_of
from ripieno.wire.options import options_to_wire
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2

#: More tasks to a call save nothing (a call costs about 0.2 ms, a task in it 10 us and
#: more) and keep the others waiting for the first to be durable.
_TASKS_A_CALL = 1_000
_BYTES_A_CALL = 2 * 1024 * 1024
#: Most expected outputs and dependencies, taken together, in a call.
_KEYS_A_CALL = 10_000
#: Large tasks that share a stream; beyond that the cost of a stream no longer counts.
_TASKS_A_STREAM = 32
_CALLS_IN_FLIGHT = 4
#: Field tags and lengths of a task within a message, rounded up.
_OVERHEAD_BYTES = 32

HandleT = TypeVar("HandleT", bound=TaskHandle)


@dataclass(slots=True)
class _SmallTasks:
    """Tasks for one CreateSmallTasks call."""

    request: submitter_service_pb2.CreateSmallTaskRequest
    count: int = 0
    keys: int = 0
    size_bytes: int = 0

    def has_room(self, task: PreparedTask, payload: bytes) -> bool:
        """Return whether one more task fits into the call; the first one always does."""
        return not self.count or (
            self.count < _TASKS_A_CALL
            and self.size_bytes + len(payload) <= _BYTES_A_CALL
            and self.keys + len(task.expected_outputs) + len(task.dependencies) <= _KEYS_A_CALL
        )

    def add(self, task: PreparedTask, payload: bytes) -> None:
        """Add one task to the call."""
        # Setting fields one by one takes half the time of keyword arguments, and this runs for every task.
        request = self.request.task_requests.add()
        request.id = task.id
        request.payload = payload
        request.expected_output_keys.extend(task.expected_outputs)
        size = len(payload) + len(task.id) + _OVERHEAD_BYTES + sum(map(len, task.expected_outputs))
        if task.dependencies:
            request.data_dependencies.extend(task.dependencies)
            size += sum(map(len, task.dependencies))
        self.keys += len(task.expected_outputs) + len(task.dependencies)
        self.size_bytes += size
        self.count += 1

    async def deliver(self, connection: Connection) -> None:
        """Send the tasks, which are durable when this returns. If the connection breaks they are sent again."""
        await in_pieces(lambda tasks: self._send(connection, tasks), self.request.task_requests)

    async def _send(self, connection: Connection, tasks: Sequence[objects_pb2.TaskRequest]) -> None:
        request = self.request
        if len(tasks) < self.count:
            request = submitter_service_pb2.CreateSmallTaskRequest(session_id=request.session_id, task_requests=tasks)
            if self.request.HasField("task_options"):
                request.task_options.CopyFrom(self.request.task_options)
        check_accepted(await connection.call("submit tasks", connection.submitter.CreateSmallTasks, request))


_Call = _SmallTasks | LargeTasks | KeyedTasks


class TaskSender:
    """Submits tasks to one session."""

    def __init__(self, connection: Connection, session_id: str) -> None:
        self._connection = connection
        self._session_id = session_id
        # Ids are 80 random bits, drawn once, and a number: unique, short, and neighbours in the database's index.
        self._prefix = secrets.token_hex(10)
        self._numbers = itertools.count()

    async def send(
        self,
        tasks: Iterable[TaskDefinition | Payload],
        options: TaskOptions | None,
        handle: Callable[[str, tuple[str, ...]], HandleT],
    ) -> list[HandleT]:
        """Submit tasks and return one handle each, in their order. The tasks are durable when this returns.

        After the first failure no further call begins; calls under way end first, so
        that a note on the error can say how many tasks were accepted.

        Raises:
            RipienoError: a call was refused, or no server answered.
            TypeError: an item is not a payload.
        """
        wire_options = None if options is None else options_to_wire(options.checked())
        limit = await self._connection.chunk_limit()
        handles: list[HandleT] = []
        delivery = _Delivery(self._connection)
        await delivery.run(self._calls(self._prepared(tasks, handle, handles), wire_options, limit))
        return handles

    def _calls(
        self,
        tasks: Iterable[PreparedTask],
        options: objects_pb2.TaskOptions | None,
        limit_bytes: int,
    ) -> Iterator[_Call]:
        """Cut the tasks into calls, reading no further ahead than the call being filled."""
        small = self._small(options)
        large: list[PreparedTask] = []
        keyed: list[PreparedTask] = []
        for task in tasks:
            if task.payload_key is not None:
                keyed.append(task)
                if len(keyed) == _TASKS_A_CALL:
                    yield KeyedTasks(self._session_id, options, keyed)
                    keyed = []
            elif isinstance(task.payload, bytes) and len(task.payload) <= limit_bytes:
                if not small.has_room(task, task.payload):
                    yield small
                    small = self._small(options)
                small.add(task, task.payload)
                if small.count == _TASKS_A_CALL:
                    yield small
                    small = self._small(options)
            else:
                large.append(task)
                if len(large) == _TASKS_A_STREAM:
                    yield LargeTasks(self._session_id, options, large)
                    large = []
        if small.count:
            yield small
        if large:
            yield LargeTasks(self._session_id, options, large)
        if keyed:
            yield KeyedTasks(self._session_id, options, keyed)

    def _small(self, options: objects_pb2.TaskOptions | None) -> _SmallTasks:
        request = submitter_service_pb2.CreateSmallTaskRequest(session_id=self._session_id, task_options=options)
        return _SmallTasks(request)

    def _prepared(
        self,
        tasks: Iterable[TaskDefinition | Payload],
        handle: Callable[[str, tuple[str, ...]], HandleT],
        handles: list[HandleT],
    ) -> Iterator[PreparedTask]:
        """Settle the names of each task and add its handle to ``handles``."""
        for item in tasks:
            if isinstance(item, TaskDefinition):
                task = self._defined(item)
                handles.append(handle(task.id, () if task.expected_outputs == (task.id,) else task.expected_outputs))
                yield task
            else:
                task_id = f"{self._prefix}-{next(self._numbers)}"
                handles.append(handle(task_id, ()))
                yield PreparedTask(task_id, (task_id,), (), *_payload_or_key(item))

    def _defined(self, item: TaskDefinition) -> PreparedTask:
        task_id = f"{self._prefix}-{next(self._numbers)}" if item.id is None else checked_name("task id", item.id)
        keys = tuple(keys_of(item.expected_outputs, "expected_outputs"))
        dependencies = keys_of(item.dependencies, "dependencies")
        return PreparedTask(task_id, keys or (task_id,), dependencies, *_payload_or_key(item.payload))


def _payload_or_key(payload: Payload) -> tuple[bytes | Path | Iterable[bytes], str | None]:
    """Return the payload of a task, or the key of the result that is its payload."""
    return (b"", payload.key) if isinstance(payload, ResultHandle) else (normal_payload(payload), None)


class _Delivery:
    """Makes the calls of a submission, a few at a time, until the first failure."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._places = asyncio.Semaphore(_CALLS_IN_FLIGHT)
        self._accepted = 0
        self._failure: Exception | None = None

    async def run(self, calls: Iterator[_Call]) -> None:
        async with asyncio.TaskGroup() as group:
            while self._failure is None:
                await self._places.acquire()
                call = self._next(calls)
                if call is None:
                    break
                group.create_task(self._deliver(call))
        if self._failure is not None:
            if self._accepted:
                self._failure.add_note(f"{self._accepted} tasks of the same submission had been accepted")
            raise self._failure

    def _next(self, calls: Iterator[_Call]) -> _Call | None:
        if self._failure is not None:
            return None
        try:
            return next(calls, None)
        except Exception as error:  # noqa: BLE001 - the caller's own iterable may raise anything; run() raises it
            self._failure = error
            return None

    async def _deliver(self, call: _Call) -> None:
        try:
            await call.deliver(self._connection)
            self._accepted += call.count
        except Exception as error:  # noqa: BLE001 - a payload may raise anything; run() raises it
            self._failure = self._failure or error
        finally:
            self._places.release()
