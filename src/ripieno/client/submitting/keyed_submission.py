"""Tasks whose payloads are results, which only this project's servers take (``Tasks.Submit``)."""

from collections.abc import Sequence
from dataclasses import dataclass

from ripieno.client.connection.connection import Connection
from ripieno.client.connection.cutting import in_pieces
from ripieno.client.submitting.large_submission import PreparedTask
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc


@dataclass(slots=True)
class KeyedTasks:
    """Tasks for one call of ``Tasks.Submit``; all of them come to exist, or none."""

    session_id: str
    options: objects_pb2.TaskOptions | None
    tasks: list[PreparedTask]

    @property
    def count(self) -> int:
        """The number of tasks."""
        return len(self.tasks)

    async def deliver(self, connection: Connection) -> None:
        """Send the tasks, which are durable when this returns. If the connection breaks they are sent again.

        Raises:
            RipienoError: the server refused the tasks, or no server answered.
        """
        await in_pieces(lambda tasks: self._send(connection, tasks), self.tasks)

    async def _send(self, connection: Connection, tasks: Sequence[PreparedTask]) -> None:
        request = tasks_pb2.SubmitTasksRequest(session_id=self.session_id, options=self.options)
        for task in tasks:
            request.tasks.add(
                id=task.id,
                payload_key=task.payload_key,
                expected_output_keys=task.expected_outputs,
                data_dependencies=task.dependencies,
            )
        await connection.call("submit tasks", connection.stub(tasks_pb2_grpc.TasksStub).Submit, request)
