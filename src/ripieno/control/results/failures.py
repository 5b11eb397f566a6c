"""The reasons why results were aborted, as messages to clients."""

from collections.abc import Sequence

from ripieno.domain.errors import NotFoundError
from ripieno.domain.outcomes import TaskFailure
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import find_results, task_failures
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.statuses import TASK_TO_WIRE


async def task_error(database: Database, session_no: int, key: str) -> objects_pb2.TaskError:
    """Return the owner of an aborted result, and that task's failed attempts, oldest first.

    Raises:
        NotFoundError: if the result does not exist.
    """
    [error] = await task_errors(database, session_no, [key])
    return error


async def task_errors(database: Database, session_no: int, keys: Sequence[str]) -> list[objects_pb2.TaskError]:
    """Return what ``task_error`` does, for several results of a session, in the order of ``keys``."""
    owners: list[tuple[int, str | None]] = []
    for key, result in zip(keys, await find_results(database, [(session_no, key) for key in keys]), strict=True):
        if result is None:
            raise NotFoundError(f"result {key!r} does not exist in this session")
        owners.append((result.owner_no, result.reason))
    return [_to_wire(failure) for failure in await task_failures(database, owners)]


def _to_wire(failure: TaskFailure) -> objects_pb2.TaskError:
    return objects_pb2.TaskError(
        task_id=failure.task_id,
        errors=[
            objects_pb2.Error(task_status=TASK_TO_WIRE[error.status], detail=error.detail) for error in failure.errors
        ],
    )
