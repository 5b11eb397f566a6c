"""How attempts of tasks have failed, with what their workers attached for programs."""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from ripieno.client.connection.connection import Connection
from ripieno.domain.statuses import TaskStatus
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """How one attempt of a task has failed.

    Attributes:
        task_id: The task's id.
        attempt: Number of the attempt, from 0.
        status: ERROR, TIMEOUT or CANCELLED.
        detail: The reason, for people: the handler's traceback, say. Of a task that failed for want of an input it is
            the whole chain down to the first cause.
        value: What the worker attached to the failure for programs, in a format of its own; None for nothing.
        agent: Name of the agent that ran it; empty if it did not begin, or is not known any more.
        worker: Name of the worker that ran it; empty if it did not begin.
        started_at: When it began; None if it did not.
        ended_at: When it ended; None while its cancellation is under way.
        failed_input: Key of the input for want of which the task failed; empty if it failed by itself.
        root_task_id: Id of the task whose own end was the first cause of that: its failure has the value. Empty if
            the task failed by itself.
    """

    task_id: str
    attempt: int
    status: TaskStatus
    detail: str
    value: bytes | None = None
    agent: str = ""
    worker: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failed_input: str = ""
    root_task_id: str = ""


async def task_failure(connection: Connection, task_id: str, attempt: int | None) -> TaskFailure:
    """Return how an attempt has failed; ``attempt`` None means the latest that did.

    Raises:
        NotFoundError: there is no such task, or the attempt has not failed.
        RipienoError: the server has no failures to tell of, or no server answered.
    """
    stub = connection.stub(tasks_pb2_grpc.TasksStub)
    request = tasks_pb2.FailureRequest(task_id=task_id, attempt=attempt)
    told = await connection.call("ask how a task has failed", stub.GetFailure, request)
    return TaskFailure(
        told.task_id,
        told.attempt,
        # A newer server may know statuses that this client does not.
        TaskStatus[told.status] if told.status in TaskStatus.__members__ else TaskStatus.ERROR,
        told.detail,
        told.value if told.HasField("value") else None,
        told.agent,
        told.worker,
        _time(told.started_at) if told.HasField("started_at") else None,
        _time(told.ended_at) if told.HasField("ended_at") else None,
        told.failed_input,
        told.root_task_id,
    )


def _time(at: Timestamp) -> datetime:
    return at.ToDatetime(UTC)
