"""Building the messages of a worker."""

from collections.abc import Iterable

from protocol.messages import chunks, header
from protocol.stubs.objects_pb2 import (
    DataChunk,
    Empty,
    InitKeyedDataStream,
    InitTaskRequest,
    Output,
    TaskOptions,
    TaskRequest,
)
from protocol.stubs.worker_service_pb2 import ProcessReply


def output_ok() -> ProcessReply:
    """Output: done."""
    return ProcessReply(output=Output(ok=Empty()))


def output_error(details: str) -> ProcessReply:
    """Output: failed, finally."""
    return ProcessReply(output=Output(error=Output.Error(details=details)))


def result_key(request_id: str, key: str) -> ProcessReply:
    """A result begins."""
    return ProcessReply(request_id=request_id, result=ProcessReply.Result(init=InitKeyedDataStream(key=key)))


def result_data(request_id: str, data: bytes) -> ProcessReply:
    """One chunk of the open result."""
    return ProcessReply(request_id=request_id, result=ProcessReply.Result(data=DataChunk(data=data)))


def result_complete(request_id: str) -> ProcessReply:
    """The open result is complete."""
    return ProcessReply(request_id=request_id, result=ProcessReply.Result(data=DataChunk(data_complete=True)))


def last_result(request_id: str) -> ProcessReply:
    """No further result under this request id."""
    return ProcessReply(request_id=request_id, result=ProcessReply.Result(init=InitKeyedDataStream(last_result=True)))


def whole_result(request_id: str, key: str, data: bytes) -> list[ProcessReply]:
    """All messages of one result."""
    return [
        result_key(request_id, key),
        *(result_data(request_id, piece) for piece in chunks(data)),
        result_complete(request_id),
        last_result(request_id),
    ]


def small_sub_tasks(
    request_id: str, tasks: Iterable[TaskRequest], task_options: TaskOptions | None = None
) -> ProcessReply:
    """Sub-tasks in one message."""
    return ProcessReply(
        request_id=request_id,
        create_small_task=ProcessReply.CreateSmallTaskRequest(task_options=task_options, task_requests=tasks),
    )


def sub_tasks_init(request_id: str, task_options: TaskOptions | None = None) -> ProcessReply:
    """A streamed submission of sub-tasks begins."""
    init = ProcessReply.CreateLargeTaskRequest.InitRequest(task_options=task_options)
    return _large(request_id, ProcessReply.CreateLargeTaskRequest(init_request=init))


def sub_task_header(request_id: str, request: TaskRequest) -> ProcessReply:
    """The header of a sub-task."""
    init = InitTaskRequest(header=header(request))
    return _large(request_id, ProcessReply.CreateLargeTaskRequest(init_task=init))


def sub_task_data(request_id: str, data: bytes) -> ProcessReply:
    """One chunk of the open sub-task's payload."""
    return _large(request_id, ProcessReply.CreateLargeTaskRequest(task_payload=DataChunk(data=data)))


def sub_task_complete(request_id: str) -> ProcessReply:
    """The end of the open sub-task's payload."""
    return _large(request_id, ProcessReply.CreateLargeTaskRequest(task_payload=DataChunk(data_complete=True)))


def last_sub_task(request_id: str) -> ProcessReply:
    """The end of a streamed submission of sub-tasks."""
    return _large(request_id, ProcessReply.CreateLargeTaskRequest(init_task=InitTaskRequest(last_task=True)))


def _large(request_id: str, message: ProcessReply.CreateLargeTaskRequest) -> ProcessReply:
    return ProcessReply(request_id=request_id, create_large_task=message)


def large_sub_tasks(
    request_id: str, tasks: Iterable[TaskRequest], task_options: TaskOptions | None = None
) -> list[ProcessReply]:
    """All messages of a correct streamed submission of sub-tasks."""
    replies = [sub_tasks_init(request_id, task_options)]
    for request in tasks:
        replies.append(sub_task_header(request_id, request))
        replies += [sub_task_data(request_id, piece) for piece in chunks(request.payload)]
        replies.append(sub_task_complete(request_id))
    return [*replies, last_sub_task(request_id)]


def resource(request_id: str, key: str) -> ProcessReply:
    """Ask for the bytes of a result, read from the store."""
    return ProcessReply(request_id=request_id, resource=ProcessReply.DataRequest(key=key))


def common_data(request_id: str, key: str) -> ProcessReply:
    """Ask for the bytes of a result that the agent keeps for the session."""
    return ProcessReply(request_id=request_id, common_data=ProcessReply.DataRequest(key=key))


def direct_data(request_id: str, key: str) -> ProcessReply:
    """Ask for the bytes of a result that the agent has at hand."""
    return ProcessReply(request_id=request_id, direct_data=ProcessReply.DataRequest(key=key))
