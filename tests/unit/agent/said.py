"""Replies of a worker, in few words."""

from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2

ProcessReply = worker_service_pb2.ProcessReply
_Result = ProcessReply.Result
_Init = objects_pb2.InitKeyedDataStream
_Chunk = objects_pb2.DataChunk
_Large = ProcessReply.CreateLargeTaskRequest


def begin(key: str, request_id: str = "r") -> ProcessReply:
    return ProcessReply(request_id=request_id, result=_Result(init=_Init(key=key)))


def data(chunk: bytes, request_id: str = "r") -> ProcessReply:
    return ProcessReply(request_id=request_id, result=_Result(data=_Chunk(data=chunk)))


def complete(request_id: str = "r") -> ProcessReply:
    return ProcessReply(request_id=request_id, result=_Result(data=_Chunk(data_complete=True)))


def last_result(request_id: str = "r") -> ProcessReply:
    return ProcessReply(request_id=request_id, result=_Result(init=_Init(last_result=True)))


def result(key: str, value: bytes, request_id: str = "r") -> list[ProcessReply]:
    return [begin(key, request_id), data(value, request_id), complete(request_id), last_result(request_id)]


def ok() -> ProcessReply:
    return ProcessReply(output=objects_pb2.Output(ok=objects_pb2.Empty()))


def error(details: str) -> ProcessReply:
    return ProcessReply(output=objects_pb2.Output(error=objects_pb2.Output.Error(details=details)))


def options(max_duration_s: int = 10, priority: int = 1) -> objects_pb2.TaskOptions:
    message = objects_pb2.TaskOptions(max_retries=1, priority=priority)
    message.max_duration.seconds = max_duration_s
    return message


def small(
    *tasks: objects_pb2.TaskRequest, request_id: str = "s", task_options: objects_pb2.TaskOptions | None = None
) -> ProcessReply:
    request = ProcessReply.CreateSmallTaskRequest(task_requests=tasks, task_options=task_options)
    return ProcessReply(request_id=request_id, create_small_task=request)


def task(task_id: str, *outputs: str, needs: tuple[str, ...] = (), payload: bytes = b"") -> objects_pb2.TaskRequest:
    return objects_pb2.TaskRequest(id=task_id, expected_output_keys=outputs, data_dependencies=needs, payload=payload)


def large_begin(request_id: str = "l", task_options: objects_pb2.TaskOptions | None = None) -> ProcessReply:
    init = _Large.InitRequest(task_options=task_options)
    return ProcessReply(request_id=request_id, create_large_task=_Large(init_request=init))


def large_header(task_id: str, *outputs: str, request_id: str = "l") -> ProcessReply:
    header = objects_pb2.TaskRequestHeader(id=task_id, expected_output_keys=outputs)
    init = objects_pb2.InitTaskRequest(header=header)
    return ProcessReply(request_id=request_id, create_large_task=_Large(init_task=init))


def large_data(chunk: bytes, request_id: str = "l") -> ProcessReply:
    return ProcessReply(request_id=request_id, create_large_task=_Large(task_payload=_Chunk(data=chunk)))


def large_complete(request_id: str = "l") -> ProcessReply:
    return ProcessReply(request_id=request_id, create_large_task=_Large(task_payload=_Chunk(data_complete=True)))


def large_end(request_id: str = "l") -> ProcessReply:
    init = objects_pb2.InitTaskRequest(last_task=True)
    return ProcessReply(request_id=request_id, create_large_task=_Large(init_task=init))


def large_task(task_id: str, *outputs: str, payload: bytes = b"", request_id: str = "l") -> list[ProcessReply]:
    return [
        large_header(task_id, *outputs, request_id=request_id),
        large_data(payload, request_id),
        large_complete(request_id),
    ]


def resource(key: str, request_id: str = "d") -> ProcessReply:
    return ProcessReply(request_id=request_id, resource=ProcessReply.DataRequest(key=key))


def common(key: str, request_id: str = "d") -> ProcessReply:
    return ProcessReply(request_id=request_id, common_data=ProcessReply.DataRequest(key=key))


def direct(key: str, request_id: str = "d") -> ProcessReply:
    return ProcessReply(request_id=request_id, direct_data=ProcessReply.DataRequest(key=key))
