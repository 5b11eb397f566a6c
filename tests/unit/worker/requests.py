"""Messages that an agent sends, in the order of the protocol."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2

ProcessRequest = worker_service_pb2.ProcessRequest
Compute = ProcessRequest.ComputeRequest

CHUNK_BYTES = 84_000


def init_request(
    task_id: str = "t",
    *,
    keys: Sequence[str] = ("r",),
    options: Mapping[str, str] | None = None,
    first_chunk: bytes = b"",
    chunk_bytes: int = CHUNK_BYTES,
) -> ProcessRequest:
    init = Compute.InitRequest(
        configuration=objects_pb2.Configuration(data_chunk_max_size=chunk_bytes),
        session_id="s",
        task_id=task_id,
        task_options=options or {},
        expected_output_keys=keys,
        payload=objects_pb2.DataChunk(data=first_chunk),
    )
    return ProcessRequest(compute=Compute(init_request=init))


def payload_chunk(chunk: bytes) -> ProcessRequest:
    return ProcessRequest(compute=Compute(payload=objects_pb2.DataChunk(data=chunk)))


def payload_complete() -> ProcessRequest:
    return ProcessRequest(compute=Compute(payload=objects_pb2.DataChunk(data_complete=True)))


def data_key(key: str) -> ProcessRequest:
    return ProcessRequest(compute=Compute(init_data=Compute.InitData(key=key)))


def data_chunk(chunk: bytes) -> ProcessRequest:
    return ProcessRequest(compute=Compute(data=objects_pb2.DataChunk(data=chunk)))


def data_complete() -> ProcessRequest:
    return ProcessRequest(compute=Compute(data=objects_pb2.DataChunk(data_complete=True)))


def last_data() -> ProcessRequest:
    return ProcessRequest(compute=Compute(init_data=Compute.InitData(last_data=True)))


def whole_task(
    task_id: str = "t",
    payload: bytes = b"",
    *,
    keys: Sequence[str] = ("r",),
    options: Mapping[str, str] | None = None,
    data: Mapping[str, bytes] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[ProcessRequest]:
    """All that the agent sends to begin a task."""
    first, *rest = cut(payload, chunk_bytes)
    yield init_request(task_id, keys=keys, options=options, first_chunk=first, chunk_bytes=chunk_bytes)
    yield from map(payload_chunk, rest)
    yield payload_complete()
    for key, datum in (data or {}).items():
        yield data_key(key)
        yield from map(data_chunk, cut(datum, chunk_bytes))
        yield data_complete()
    yield last_data()


def cut(data: bytes, chunk_bytes: int) -> list[bytes]:
    return [data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes)] or [b""]


def sub_tasks_taken(reply_id: str) -> ProcessRequest:
    reply = objects_pb2.CreateTaskReply(successfull=objects_pb2.Empty())
    return ProcessRequest(create_task=ProcessRequest.CreateTask(reply_id=reply_id, reply=reply))


def sub_tasks_refused(reply_id: str, ids: Iterable[str]) -> ProcessRequest:
    reply = objects_pb2.CreateTaskReply(non_successfull_ids=objects_pb2.CreateTaskReply.TaskIds(ids=ids))
    return ProcessRequest(create_task=ProcessRequest.CreateTask(reply_id=reply_id, reply=reply))


def datum_answer(
    kind: str, reply_id: str, key: str, data: bytes, chunk_bytes: int = CHUNK_BYTES
) -> list[ProcessRequest]:
    """The answer to a question for data; ``kind`` is ``resource`` or one of its sisters."""
    first, *rest = cut(data, chunk_bytes)
    init = ProcessRequest.DataReply.Init(key=key, data=objects_pb2.DataChunk(data=first))
    replies = [ProcessRequest.DataReply(reply_id=reply_id, init=init)]
    replies += [ProcessRequest.DataReply(reply_id=reply_id, data=objects_pb2.DataChunk(data=chunk)) for chunk in rest]
    replies.append(ProcessRequest.DataReply(reply_id=reply_id, data=objects_pb2.DataChunk(data_complete=True)))
    return [_answer(kind, reply) for reply in replies]


def datum_refusal(kind: str, reply_id: str, key: str, reason: str) -> ProcessRequest:
    init = ProcessRequest.DataReply.Init(key=key, error=reason)
    return _answer(kind, ProcessRequest.DataReply(reply_id=reply_id, init=init))


def _answer(kind: str, reply: ProcessRequest.DataReply) -> ProcessRequest:
    request = ProcessRequest()
    {"resource": request.resource, "common_data": request.common_data, "direct_data": request.direct_data}[
        kind
    ].CopyFrom(reply)
    return request
