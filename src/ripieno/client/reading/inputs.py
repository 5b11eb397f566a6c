"""What a task runs on: the call, and the payload written to a file in bounded memory."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.domain.errors import UnavailableError
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """What a task runs on, but for the bytes of its payload and of its data dependencies.

    Attributes:
        task_id: The task's id.
        session_id: The id of its session.
        options: The free map of its options, as workers see it.
        expected_outputs: Keys of the results that it is to make.
        dependencies: Keys of the results that it needs.
        payload_key: The result that is the payload; None if none is.
        payload_size: Size of the payload in bytes.
    """

    task_id: str
    session_id: str
    options: Mapping[str, str]
    expected_outputs: Sequence[str]
    dependencies: Sequence[str]
    payload_key: str | None
    payload_size: int


async def fetch_inputs(connection: Connection, task_id: str, path: Path) -> TaskInputs:
    """Write the payload of a task to a file, and return what else the task runs on.

    Raises:
        NotFoundError: there is no such task.
        ConflictError: its payload is gone, or is a result that is not there yet.
        RipienoError: no server answered, or it does not tell inputs.
        OSError: the file cannot be written.
    """
    patience = connection.patience("fetch the inputs of a task")
    head: tasks_pb2.TaskInputs.Head | None = None
    file = await asyncio.to_thread(path.open, "wb")
    try:
        while True:
            request = tasks_pb2.GetInputsRequest(task_id=task_id, offset=file.tell())
            call = connection.stub(tasks_pb2_grpc.TasksStub).GetInputs(request)
            try:
                async for message in call:
                    patience.renew()
                    head = message.head if message.HasField("head") else head
                    await asyncio.to_thread(file.write, message.payload)
                    if message.complete and head is not None:
                        return _of(head)
                await patience.pause(UnavailableError("it ended the payload early"))
            except grpc.aio.AioRpcError as error:
                await patience.pause(error)
            finally:
                call.cancel()
    finally:
        await asyncio.to_thread(file.close)


def _of(head: tasks_pb2.TaskInputs.Head) -> TaskInputs:
    return TaskInputs(
        head.task_id,
        head.session_id,
        dict(head.options.options),
        tuple(head.expected_output_keys),
        tuple(head.data_dependencies),
        head.payload_key or None,
        head.payload_size,
    )
