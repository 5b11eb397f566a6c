"""The reasons why results were aborted, as messages to clients."""

from collections.abc import Sequence

from ripieno.domain.errors import NotFoundError
from ripieno.domain.outcomes import AttemptError, TaskFailure
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import find_results, task_failures
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.statuses import TASK_TO_WIRE


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
