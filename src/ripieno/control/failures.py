"""Why a result was aborted, as clients are told."""

from ripieno.domain.errors import NotFoundError
from ripieno.store.database import Database
from ripieno.store.lookup import find_result, task_failure
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.statuses import TASK_TO_WIRE


async def task_error(database: Database, session_no: int, key: str) -> objects_pb2.TaskError:
    """The owner of an aborted result and that task's failed attempts, oldest first.

    Raises:
        NotFoundError: the result does not exist.
    """
    result = await find_result(database, session_no, key)
    if result is None:
        raise NotFoundError(f"result {key!r} does not exist in this session")
    failure = await task_failure(database, result.owner_no, result.reason)
    return objects_pb2.TaskError(
        task_id=failure.task_id,
        errors=[
            objects_pb2.Error(task_status=TASK_TO_WIRE[error.status], detail=error.detail) for error in failure.errors
        ],
    )
