"""Building the messages of a client, and the statuses in them."""

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.duration_pb2 import Duration

from protocol.stubs import objects_pb2, submitter_service_pb2, task_status_pb2
from protocol.stubs.submitter_service_pb2 import CreateLargeTaskRequest, TaskFilter

#: ``data_chunk_max_size`` unless configured otherwise (part 2).
CHUNK = 84_000

if TYPE_CHECKING:
    TaskStatus: TypeAlias = task_status_pb2.TaskStatus.ValueType
else:
    TaskStatus = int  # The type of one status has no name at run time.

SUBMITTED = task_status_pb2.TASK_STATUS_SUBMITTED
DISPATCHED = task_status_pb2.TASK_STATUS_DISPATCHED
PROCESSING = task_status_pb2.TASK_STATUS_PROCESSING
COMPLETED = task_status_pb2.TASK_STATUS_COMPLETED
ERROR = task_status_pb2.TASK_STATUS_ERROR
TIMEOUT = task_status_pb2.TASK_STATUS_TIMEOUT
CANCELING = task_status_pb2.TASK_STATUS_CANCELING
CANCELED = task_status_pb2.TASK_STATUS_CANCELED

FINAL = frozenset({COMPLETED, ERROR, TIMEOUT, CANCELED})
UNFINISHED = frozenset({SUBMITTED, DISPATCHED, PROCESSING, CANCELING})

_numbers = itertools.count(1)
_RUN = uuid.uuid4().hex[:8]


def unique(stem: str) -> str:
    """A name that no other test uses."""
    return f"{stem}-{_RUN}-{next(_numbers)}"


def options(
    *,
    max_duration_s: float = 60.0,
    max_retries: int = 0,
    priority: int = 1,
    free: Mapping[str, str] | None = None,
) -> objects_pb2.TaskOptions:
    """Task options that are valid unless an argument makes them otherwise."""
    seconds = int(max_duration_s)
    duration = Duration(seconds=seconds, nanos=round((max_duration_s - seconds) * 1e9))
    return objects_pb2.TaskOptions(
        options=free or {}, max_duration=duration, max_retries=max_retries, priority=priority
    )


def task(
    task_id: str,
    keys: Sequence[str] | None = None,
    *,
    needs: Sequence[str] = (),
    payload: bytes = b"",
) -> objects_pb2.TaskRequest:
    """One new task; without ``keys`` it makes the single result ``out(task_id)``."""
    return objects_pb2.TaskRequest(
        id=task_id,
        expected_output_keys=[out(task_id)] if keys is None else keys,
        data_dependencies=needs,
        payload=payload,
    )


def out(task_id: str) -> str:
    """The key of the result that ``task`` gives a task when it is told none."""
    return f"{task_id}.out"


def chunks(data: bytes, size: int = CHUNK) -> Iterator[bytes]:
    """``data`` in pieces of ``size``; empty data is one empty piece."""
    yield data[:size]
    for start in range(size, len(data), size):
        yield data[start : start + size]


def pattern(size: int) -> bytes:
    """Bytes of this length in which no two chunks are equal."""
    words = b"".join(number.to_bytes(8, "big") for number in range(size // 8 + 1))
    return words[:size]


# ---------------------------------------------------------------- filters


def by_tasks(*ids: str, included: Iterable[TaskStatus] = (), excluded: Iterable[TaskStatus] = ()) -> TaskFilter:
    """A filter by task ids."""
    return _and_statuses(TaskFilter(task=TaskFilter.IdsRequest(ids=ids)), included, excluded)


def by_sessions(*ids: str, included: Iterable[TaskStatus] = (), excluded: Iterable[TaskStatus] = ()) -> TaskFilter:
    """A filter by session ids."""
    return _and_statuses(TaskFilter(session=TaskFilter.IdsRequest(ids=ids)), included, excluded)


def _and_statuses(tasks: TaskFilter, included: Iterable[TaskStatus], excluded: Iterable[TaskStatus]) -> TaskFilter:
    if included:
        tasks.included.statuses.extend(included)
    if excluded:
        tasks.excluded.statuses.extend(excluded)
    return tasks


def small(
    session_id: str, *tasks: objects_pb2.TaskRequest, task_options: objects_pb2.TaskOptions | None = None
) -> submitter_service_pb2.CreateSmallTaskRequest:
    """The request of CreateSmallTasks."""
    return submitter_service_pb2.CreateSmallTaskRequest(
        session_id=session_id, task_options=task_options, task_requests=tasks
    )


# ---------------------------------------------------------------- CreateLargeTasks


def init_large(session_id: str, task_options: objects_pb2.TaskOptions | None = None) -> CreateLargeTaskRequest:
    """The first message."""
    return CreateLargeTaskRequest(
        init_request=CreateLargeTaskRequest.InitRequest(session_id=session_id, task_options=task_options)
    )


def large_header(request: objects_pb2.TaskRequest) -> CreateLargeTaskRequest:
    """The header of a task."""
    return CreateLargeTaskRequest(init_task=objects_pb2.InitTaskRequest(header=header(request)))


def large_data(data: bytes) -> CreateLargeTaskRequest:
    """One chunk of the open task's payload."""
    return CreateLargeTaskRequest(task_payload=objects_pb2.DataChunk(data=data))


def large_data_complete() -> CreateLargeTaskRequest:
    """The end of the open task's payload."""
    return CreateLargeTaskRequest(task_payload=objects_pb2.DataChunk(data_complete=True))


def last_task() -> CreateLargeTaskRequest:
    """The end of the submission."""
    return CreateLargeTaskRequest(init_task=objects_pb2.InitTaskRequest(last_task=True))


def header(request: objects_pb2.TaskRequest) -> objects_pb2.TaskRequestHeader:
    """A task without its payload."""
    return objects_pb2.TaskRequestHeader(
        id=request.id,
        expected_output_keys=request.expected_output_keys,
        data_dependencies=request.data_dependencies,
    )


def large_submission(
    session_id: str,
    tasks: Iterable[objects_pb2.TaskRequest],
    task_options: objects_pb2.TaskOptions | None = None,
    *,
    chunk_size: int = CHUNK,
) -> Iterator[CreateLargeTaskRequest]:
    """All messages of a correct call."""
    yield init_large(session_id, task_options)
    for request in tasks:
        yield large_header(request)
        for piece in chunks(request.payload, chunk_size):
            yield large_data(piece)
        yield large_data_complete()
    yield last_task()
