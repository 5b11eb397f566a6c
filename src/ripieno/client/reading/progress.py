"""How far tasks that run have come, as their handlers say: asked for once, or followed."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.domain.errors import UnavailableError
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc

Request = tasks_pb2.FollowProgressRequest


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far an attempt of a task has come, in its handler's words (``task.progress``).

    Attributes:
        task_id: The task's id.
        attempt: Number of the attempt, from 0.
        fraction: From 0 to 1.
        text: For people; may be empty.
    """

    task_id: str
    attempt: int
    fraction: float
    text: str


async def task_progress(connection: Connection, task_id: str) -> TaskProgress | None:
    """Return how far a task has come that runs; None if it does not run, or says nothing.

    Raises:
        NotFoundError: there is no such task.
        RipienoError: the server knows no progress, or no server answered.
    """
    patience = connection.patience("ask how far a task has come")
    while True:
        call = connection.stub(tasks_pb2_grpc.TasksStub).FollowProgress(Request(task_id=task_id))
        try:
            async for report in call:
                told = [_of(each) for each in report.progress]
                return told[-1] if told else None
            await patience.pause(UnavailableError("it ended the report early"))
        except grpc.aio.AioRpcError as error:
            await patience.pause(error)
        finally:
            call.cancel()


async def follow_progress(connection: Connection, session_id: str) -> AsyncGenerator[TaskProgress, None]:
    """Yield how far tasks of a session have come, whenever one has come further, until the caller stops.

    Raises:
        RipienoError: as for ``task_progress``.
    """
    patience = connection.patience("follow how far tasks have come")
    latest: dict[str, TaskProgress] = {}
    while True:
        call = connection.stub(tasks_pb2_grpc.TasksStub).FollowProgress(Request(session_id=session_id, follow=True))
        try:
            async for report in call:
                patience.renew()
                for progress in map(_of, report.progress):
                    # After a break all are told again.
                    if latest.get(progress.task_id) != progress:
                        latest[progress.task_id] = progress
                        yield progress
            await patience.pause(UnavailableError("it ended the reports early"))
        except grpc.aio.AioRpcError as error:
            await patience.pause(error)
        finally:
            call.cancel()


def _of(told: tasks_pb2.ProgressReport.Progress) -> TaskProgress:
    return TaskProgress(told.task_id, told.attempt, told.fraction, told.text)
