"""One streamed submission: tasks whose payloads are too long for a message."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.client.connection.cutting import in_pieces
from ripieno.client.submitting.payloads import can_be_read_again, payload_chunks
from ripieno.client.terms.errors import from_rpc
from ripieno.domain.errors import ConflictError, OutcomeUnknownError
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2

_Message = submitter_service_pb2.CreateLargeTaskRequest


class PreparedTask(NamedTuple):
    """A task whose names are settled; the payload may still have to be read.

    Attributes:
        payload_key: Key of the result that is the payload, in place of ``payload``.
    """

    id: str
    expected_outputs: tuple[str, ...]
    dependencies: Sequence[str]
    payload: bytes | Path | Iterable[bytes]
    payload_key: str | None = None


@dataclass(slots=True)
class LargeTasks:
    """Tasks for one CreateLargeTasks call; all of them come to exist, or none."""

    session_id: str
    options: objects_pb2.TaskOptions | None
    tasks: list[PreparedTask]

    @property
    def count(self) -> int:
        """The number of tasks."""
        return len(self.tasks)

    async def deliver(self, connection: Connection) -> None:
        """Send the tasks, which are durable when this returns.

        Raises:
            RipienoError: the server refused the tasks, or no server answered.
            OutcomeUnknownError: the connection broke, and a payload that was being read
                cannot be read a second time.
            OSError: a payload's file cannot be read.
        """
        if all(can_be_read_again(task.payload) for task in self.tasks):
            await in_pieces(lambda tasks: self._deliver(connection, tasks), self.tasks)
        else:
            await self._deliver(connection, self.tasks, repeatable=False)

    async def _deliver(self, connection: Connection, tasks: Sequence[PreparedTask], *, repeatable: bool = True) -> None:
        patience = connection.patience("submit tasks")
        limit = await connection.chunk_limit()
        while True:
            try:
                check_accepted(await self._attempt(connection, tasks, limit))
                return
            except grpc.aio.AioRpcError as error:
                failure = from_rpc(error)
                if failure.retry_is_safe and not repeatable:
                    raise OutcomeUnknownError(
                        f"the connection broke while a payload was being sent ({failure.detail}), and an iterator"
                        " cannot be read twice; pass a file, a list or bytes to have it sent again"
                    ) from error
                await patience.pause(error)

    async def _attempt(
        self, connection: Connection, tasks: Sequence[PreparedTask], limit_bytes: int
    ) -> objects_pb2.CreateTaskReply:
        call = connection.submitter.CreateLargeTasks()
        try:
            async for message in self._messages(tasks, limit_bytes):
                try:
                    await call.write(message)
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    break  # The server has answered already; awaiting the call brings its answer.
            else:
                await call.done_writing()
            return await call
        finally:
            call.cancel()  # Frees the stream where a payload could not be read; no effect on a call that is over.

    async def _messages(self, tasks: Sequence[PreparedTask], limit_bytes: int) -> AsyncIterator[_Message]:
        yield _Message(init_request=_Message.InitRequest(session_id=self.session_id, task_options=self.options))
        for task in tasks:
            header = objects_pb2.TaskRequestHeader(
                id=task.id, expected_output_keys=task.expected_outputs, data_dependencies=task.dependencies
            )
            yield _Message(init_task=objects_pb2.InitTaskRequest(header=header))
            async for chunk in payload_chunks(task.payload, limit_bytes):
                yield _Message(task_payload=objects_pb2.DataChunk(data=chunk))
            yield _Message(task_payload=objects_pb2.DataChunk(data_complete=True))
        yield _Message(init_task=objects_pb2.InitTaskRequest(last_task=True))


def check_accepted(reply: objects_pb2.CreateTaskReply) -> None:
    """Make sure that a submission was taken.

    Raises:
        ConflictError: the server names tasks that it refused (as old servers do).
    """
    if reply.WhichOneof("Data") == "non_successfull_ids":
        refused = list(reply.non_successfull_ids.ids)
        raise ConflictError(f"the server refused {len(refused)} tasks, the first ones {refused[:10]}")
