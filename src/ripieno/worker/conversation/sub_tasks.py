"""``SubTask``: the tasks that a handler creates, and the messages that ask the agent for them."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.options import TaskOptions, check_options
from ripieno.domain.submission import NewTask, check_tasks
from ripieno.wire.chunks import chunks
from ripieno.wire.options import options_to_wire
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.worker.conversation.replies import ProcessReply

#: Most bytes of a single message, ids and keys included (gRPC's usual limit is 4 MiB).
SMALL_MESSAGE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SubTask:
    """A task that a handler creates.

    Attributes:
        payload: The sub-task's input.
        expected_output_keys: Keys of the results that the sub-task must make. A key that the parent
            was to make passes to the sub-task (delegation); other keys must be new in the session.
        data_dependencies: Keys of results of the session that the sub-task needs before it starts.
        id: The sub-task's id, which is global; a fresh one unless given.
    """

    payload: bytes
    expected_output_keys: Sequence[str]
    data_dependencies: Sequence[str] = ()
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


def check_sub_tasks(sub_tasks: Sequence[SubTask], options: TaskOptions | None) -> None:
    """Check those rules for a batch of sub-tasks that need no knowledge of the cluster.

    Raises:
        InvalidRequestError: there is no task, a name is blank, an id or key occurs twice, or options
            are out of range.
    """
    check_tasks(
        "sub_tasks",
        [NewTask(task.id, task.expected_output_keys, task.data_dependencies, task.payload) for task in sub_tasks],
    )
    if options is not None:
        check_options("options", options)


def creation_replies(
    request_id: str, sub_tasks: Sequence[SubTask], options: TaskOptions | None, chunk_bytes: int
) -> Iterator[ProcessReply]:
    """Return the replies that ask for sub-tasks: one if the payloads fit a chunk and it fits 1 MiB, else a stream.

    Raises:
        InvalidRequestError: the batch has to be streamed and a task expects no output, which
            the protocol does not allow there.
    """
    wire_options = None if options is None else options_to_wire(options)
    if sum(len(task.payload) for task in sub_tasks) <= chunk_bytes:
        reply = _small(request_id, sub_tasks, wire_options)
        if reply.ByteSize() <= SMALL_MESSAGE_BYTES:
            return iter((reply,))
    for index, task in enumerate(sub_tasks):
        if not task.expected_output_keys:
            raise InvalidRequestError(
                f"sub_tasks[{index}].expected_output_keys",
                f"is empty for task {task.id!r}; a batch of more than {chunk_bytes} bytes must name a result of each",
            )
    return _large(request_id, sub_tasks, wire_options, chunk_bytes)


def _small(request_id: str, sub_tasks: Sequence[SubTask], options: objects_pb2.TaskOptions | None) -> ProcessReply:
    requests = [
        objects_pb2.TaskRequest(
            id=task.id,
            expected_output_keys=task.expected_output_keys,
            data_dependencies=task.data_dependencies,
            payload=task.payload,
        )
        for task in sub_tasks
    ]
    small = ProcessReply.CreateSmallTaskRequest(task_options=options, task_requests=requests)
    return ProcessReply(request_id=request_id, create_small_task=small)


def _large(
    request_id: str, sub_tasks: Sequence[SubTask], options: objects_pb2.TaskOptions | None, chunk_bytes: int
) -> Iterator[ProcessReply]:
    large = ProcessReply.CreateLargeTaskRequest

    def reply(message: ProcessReply.CreateLargeTaskRequest) -> ProcessReply:
        return ProcessReply(request_id=request_id, create_large_task=message)

    yield reply(large(init_request=large.InitRequest(task_options=options)))
    for task in sub_tasks:
        header = objects_pb2.TaskRequestHeader(
            id=task.id, expected_output_keys=task.expected_output_keys, data_dependencies=task.data_dependencies
        )
        yield reply(large(init_task=objects_pb2.InitTaskRequest(header=header)))
        for chunk in chunks(task.payload, chunk_bytes):
            yield reply(large(task_payload=objects_pb2.DataChunk(data=chunk)))
        yield reply(large(task_payload=objects_pb2.DataChunk(data_complete=True)))
    yield reply(large(init_task=objects_pb2.InitTaskRequest(last_task=True)))
