"""The call ``Submit`` of the Tasks service: tasks with options of their own, and results as payloads."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import grpc.aio

from ripieno.config import ControlSettings
from ripieno.control.calls.arrivals import arrived_bytes
from ripieno.control.submitting.submissions import Submissions
from ripieno.domain.data import Data
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.options import TaskOptions
from ripieno.domain.submission import NewTask, check_tasks
from ripieno.store.cluster.objects import ObjectStore
from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class TaskSubmission(tasks_pb2_grpc.TasksServicer):
    """Implements the call; the other calls of the service are added by subclasses."""

    def __init__(self, settings: ControlSettings, objects: ObjectStore, submissions: Submissions) -> None:
        self._inline_limit = settings.inline_limit_bytes
        self._objects = objects
        self._submissions = submissions

    async def Submit(  # noqa: N802 - the protocol's name
        self, request: tasks_pb2.SubmitTasksRequest, context: Context
    ) -> tasks_pb2.SubmitTasksReply:
        """Create all tasks of the request or none; they are durable when the reply is sent."""
        check_identifier("session_id", request.session_id)
        options = options_from_wire("options", request.options) if request.HasField("options") else None
        own = [
            options_from_wire(f"tasks[{index}].options", task.options) if task.HasField("options") else None
            for index, task in enumerate(request.tasks)
        ]
        tasks = [_new_task(task) for task in request.tasks]
        check_tasks("tasks", tasks)
        tasks = [task._replace(payload=await self._stored(task.payload)) for task in tasks]
        await self._submissions.submit(request.session_id, options, tasks, arrived_bytes(), _if_any(own))
        return tasks_pb2.SubmitTasksReply(task_ids=[task.id for task in tasks])

    async def _stored(self, payload: Data) -> Data:
        if not isinstance(payload, bytes) or len(payload) <= self._inline_limit:
            return payload
        async with await self._objects.writer() as writer:
            await writer.write(payload)
        return writer.stored


def _new_task(task: tasks_pb2.SubmitTasksRequest.NewTask) -> NewTask:
    return NewTask(
        task.id or str(uuid4()),
        list(task.expected_output_keys),
        list(task.data_dependencies),
        task.payload,
        task.payload_key if task.WhichOneof("input") == "payload_key" else None,
    )


def _if_any(own: Sequence[TaskOptions | None]) -> Sequence[TaskOptions | None] | None:
    return own if any(each is not None for each in own) else None
