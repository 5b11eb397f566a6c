"""Decoding and checking requests of the Submitter service."""

from collections.abc import Iterable

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.filters import SessionFilter, TaskFilter
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.options import TaskOptions
from ripieno.domain.statuses import SessionStatus, TaskStatus
from ripieno.domain.submission import NewTask, check_tasks
from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.armonik_v2 import (
    objects_pb2,
    session_status_pb2,
    submitter_service_pb2,
    task_status_pb2,
)
from ripieno.wire.statuses import SESSION_FROM_WIRE, TASK_FROM_WIRE


def new_tasks(where: str, requests: Iterable[objects_pb2.TaskRequest], chunk_limit_bytes: int) -> list[NewTask]:
    """Decode and check the tasks of one small submission; ``where`` is the field that holds them.

    Raises:
        InvalidRequestError: if a task breaks a rule, or its payload is longer than ``chunk_limit_bytes``; the
            text names the field and its value.
    """
    tasks = [
        NewTask(request.id, list(request.expected_output_keys), list(request.data_dependencies), request.payload)
        for request in requests
    ]
    check_tasks(where, tasks)
    for index, task in enumerate(tasks):
        assert isinstance(task.payload, bytes)
        if len(task.payload) > chunk_limit_bytes:
            raise InvalidRequestError(
                f"{where}[{index}].payload",
                f"{len(task.payload)} bytes of task {task.id!r} are more than data_chunk_max_size"
                f" ({chunk_limit_bytes}); submit it with CreateLargeTasks",
            )
    return tasks


def session_to_create(request: submitter_service_pb2.CreateSessionRequest) -> tuple[str, TaskOptions]:
    """Decode and check the id and the default options of a session to be created.

    Raises:
        InvalidRequestError: if one of them is missing or breaks a rule; the text names the field and its value.
    """
    check_identifier("id", request.id)
    if not request.HasField("default_task_option"):
        raise InvalidRequestError("default_task_option", "is not set; give the options of tasks that come without")
    return request.id, options_from_wire("default_task_option", request.default_task_option)


def optional_options(
    request: submitter_service_pb2.CreateSmallTaskRequest | submitter_service_pb2.CreateLargeTaskRequest.InitRequest,
    where: str = "task_options",
) -> TaskOptions | None:
    """Decode and check the options of a submission; None means the session's default options, as a whole.

    Raises:
        InvalidRequestError: if an option breaks a rule.
    """
    return options_from_wire(where, request.task_options) if request.HasField("task_options") else None


def task_filter(message: submitter_service_pb2.TaskFilter, where: str = "") -> TaskFilter:
    """Decode and check a task filter; ``where`` is the prefix of field names in errors.

    Raises:
        InvalidRequestError: if the filter names no ids, or no or unknown statuses; the text names the field.
    """
    kind = message.WhichOneof("ids")
    if kind is None:
        raise InvalidRequestError(f"{where}ids", "is not set; name sessions or tasks")
    ids = _known_form((message.session if kind == "session" else message.task).ids)
    if not (message.session if kind == "session" else message.task).ids:
        raise InvalidRequestError(f"{where}{kind}.ids", "is empty; name at least one")
    statuses = _task_statuses(message, where)
    return TaskFilter(ids, None, statuses) if kind == "task" else TaskFilter(None, ids, statuses)


def session_filter(message: submitter_service_pb2.SessionFilter) -> SessionFilter:
    """Decode and check a session filter.

    Raises:
        InvalidRequestError: if the filter has an empty list of statuses or an unknown one; the text names the field.
    """
    kind = message.WhichOneof("statuses")
    statuses = None
    if kind is not None:
        numbers = (message.included if kind == "included" else message.excluded).statuses
        valid = session_status_pb2.SessionStatus.values()
        named = _checked_statuses(f"{kind}.statuses", numbers, valid)
        known = frozenset[SessionStatus]().union(*(SESSION_FROM_WIRE.get(number, ()) for number in named))
        statuses = known if kind == "included" else frozenset(SessionStatus) - known
    return SessionFilter(_known_form(message.sessions) if message.sessions else None, statuses)


def wanted_result(request: objects_pb2.ResultRequest) -> tuple[str, str]:
    """Check the session id and the result key of a request; return both.

    Raises:
        InvalidRequestError: if one of them is blank or breaks another rule for names.
    """
    check_identifier("session", request.session)
    check_identifier("key", request.key)
    return request.session, request.key


def distinct_ids(ids: Iterable[str]) -> list[str]:
    """Return the distinct ids in the order of the request, without those that no name can be (with a NUL)."""
    return _known_form(dict.fromkeys(ids))


def _known_form(ids: Iterable[str]) -> list[str]:
    # Ids with a NUL are left out, as unknown ones: they cannot exist, and PostgreSQL would not take them.
    return [each for each in ids if "\0" not in each]


def _task_statuses(message: submitter_service_pb2.TaskFilter, where: str) -> frozenset[TaskStatus] | None:
    kind = message.WhichOneof("statuses")
    if kind is None:
        return None
    numbers = (message.included if kind == "included" else message.excluded).statuses
    named = _checked_statuses(f"{where}{kind}.statuses", numbers, task_status_pb2.TaskStatus.values())
    known = frozenset(TASK_FROM_WIRE[number] for number in named if number in TASK_FROM_WIRE)
    return known if kind == "included" else frozenset(TaskStatus) - known


def _checked_statuses(where: str, numbers: Iterable[int], valid: Iterable[int]) -> set[int]:
    named = set(numbers)
    if not named:
        raise InvalidRequestError(where, "is empty; name at least one status, or leave the oneof unset")
    if strange := named.difference(valid):
        raise InvalidRequestError(where, f"{sorted(strange)[0]} is not a status")
    return named
