"""The failures of attempts, and the reasons why results were aborted, as messages to clients."""

from collections.abc import Sequence

from ripieno.domain.errors import InvalidRequestError, NotFoundError
from ripieno.domain.identifiers import LARGEST_ATTEMPT, attempt_of_alias, check_identifier
from ripieno.domain.outcomes import AttemptError, TaskFailure
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.reading.failures import FailureState, failure_of_attempt
from ripieno.store.reading.lookup import find_results, find_tasks, task_failures
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.protos.v1 import tasks_pb2
from ripieno.wire.statuses import TASK_TO_WIRE


async def attempt_failure(database: Database, task_id: str, attempt: int | None) -> tasks_pb2.TaskFailure:
    """Return how an attempt of a task has failed, and what its worker attached to the failure.

    Args:
        database: The database.
        task_id: The task's id, or that of an attempt as workers see it.
        attempt: Number of the attempt, from 0; None means the latest that failed.

    Raises:
        InvalidRequestError: if the id or the number breaks a rule.
        NotFoundError: if there is no such task, or the attempt has not failed.
    """
    check_identifier("task_id", task_id)
    if attempt is not None and not 0 <= attempt <= LARGEST_ATTEMPT:
        raise InvalidRequestError("attempt", f"is {attempt}; attempts are numbered from 0")
    found = (await find_tasks(database, [task_id])).get(task_id)
    if found is None:
        raise NotFoundError(f"there is no task {task_id!r}")
    if attempt is None and found.id != task_id:
        attempt = min(attempt_of_alias(task_id), LARGEST_ATTEMPT)
    state = await failure_of_attempt(database, found.task_no, attempt)
    if state is None:
        raise NotFoundError(f"there is no task {found.id!r} any more")
    if state.failed is None:
        raise NotFoundError(_not_failed(found.id, attempt, state))
    failed = state.failed
    message = tasks_pb2.TaskFailure(
        task_id=found.id,
        attempt=failed.attempt,
        status=failed.status.name,
        detail=failed.detail,
        agent=failed.agent,
        worker=failed.worker,
        value=failed.value,
        failed_input=failed.failed_input,
        root_task_id=failed.root_id,
    )
    for name in ("started_at", "ended_at"):
        if (at := getattr(failed, name)) is not None:
            getattr(message, name).FromDatetime(at)
    return message


def _not_failed(task_id: str, attempt: int | None, state: FailureState) -> str:
    if attempt is None:
        return f"no attempt of task {task_id!r} has failed; the task is {state.status.name}"
    if attempt > state.latest:
        return f"task {task_id!r} has no attempt {attempt}; its latest is {state.latest}"
    return f"attempt {attempt} of task {task_id!r} has not failed; the task is {state.status.name}"


async def task_error(database: Database, session_no: int, key: str) -> objects_pb2.TaskError:
    """Return why an aborted or deleted result has no data: its owner, and that task's failed attempts, oldest first.

    Raises:
        NotFoundError: if the result does not exist.
    """
    [error] = await task_errors(database, session_no, [key])
    return error


async def task_errors(database: Database, session_no: int, keys: Sequence[str]) -> list[objects_pb2.TaskError]:
    """Return what ``task_error`` does, for several results of a session, in the order of ``keys``."""
    told: list[objects_pb2.TaskError | None] = []
    owners: list[tuple[int, str | None]] = []
    for key, result in zip(keys, await find_results(database, [(session_no, key) for key in keys]), strict=True):
        if result is None:
            raise NotFoundError(f"result {key!r} does not exist in this session")
        if result.owner_no is None or result.status is ResultStatus.DELETED:  # no attempt of a task is to blame
            told.append(
                _to_wire(TaskFailure(result.owner_id, [AttemptError(TaskStatus.COMPLETED, result.reason or "")]))
            )
        else:
            told.append(None)
            owners.append((result.owner_no, result.reason))
    failures = iter(await task_failures(database, owners))
    return [_to_wire(next(failures)) if each is None else each for each in told]


def _to_wire(failure: TaskFailure) -> objects_pb2.TaskError:
    return objects_pb2.TaskError(
        task_id=failure.task_id,
        errors=[
            objects_pb2.Error(task_status=TASK_TO_WIRE[error.status], detail=error.detail) for error in failure.errors
        ],
    )
