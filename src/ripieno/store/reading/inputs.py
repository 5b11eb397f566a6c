"""Query about what one task runs on, which locks and changes nothing."""

from dataclasses import dataclass

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import ConflictError, NotFoundError
from ripieno.domain.options import TaskOptions
from ripieno.domain.statuses import ResultStatus
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from ripieno.store.reading.lookup import find_tasks
from ripieno.store.sessions.sessions import options_of

_SQL = Queries("inputs")


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """What a task runs on.

    Attributes:
        task_id: Its id.
        session_id: The id of its session.
        options: Its options, as they are now.
        expected_output_keys: Keys of the results that it is to make.
        data_dependencies: Keys of the results that it needs.
        payload_key: The result that is the payload; None if none is.
        payload: The payload, or the object that holds it.
    """

    task_id: str
    session_id: str
    options: TaskOptions
    expected_output_keys: tuple[str, ...]
    data_dependencies: tuple[str, ...]
    payload_key: str | None
    payload: Data


async def inputs_of_task(database: Database, task_id: str) -> TaskInputs:
    """Return what a task runs on; an attempt id stands for its task.

    Raises:
        NotFoundError: if there is no such task.
        ConflictError: if its payload is gone, or is a result that is not there yet.
    """
    found = (await find_tasks(database, [task_id])).get(task_id)
    row = None if found is None else await database.fetchrow(_SQL.inputs_of_task, found.task_no)
    if row is None:
        raise NotFoundError(f"there is no task {task_id!r}")
    if row["size"] is None:
        raise ConflictError(_why_gone(row["id"], row["session_id"], row["payload_key"], row["payload_status"]))
    payload = row["data"]
    return TaskInputs(
        row["id"],
        row["session_id"],
        options_of(row),
        tuple(row["expected_output_keys"]),
        tuple(row["data_dependencies"]),
        row["payload_key"],
        StoredObject(row["object"], row["size"], row["sha256"]) if payload is None else payload,
    )


def _why_gone(task_id: str, session_id: str, key: str | None, status: int | None) -> str:
    if key is None:
        return f"the payload of task {task_id!r} is gone: its session {session_id!r} was purged"
    if status == ResultStatus.DELETED:
        return f"the payload of task {task_id!r} is gone: it was result {key!r}, whose data was deleted"
    name = "NAMED" if status is None else ResultStatus(status).name
    return f"the payload of task {task_id!r} is result {key!r}, which is not there: it is {name}"
