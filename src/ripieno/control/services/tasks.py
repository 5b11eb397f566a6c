"""The Tasks service: what attempts of tasks have printed."""

from contextlib import aclosing
from typing import Any

import grpc.aio

from ripieno.control.results.outputs import Outputs, Piece
from ripieno.control.waiting.watcher import Watcher
from ripieno.store.database.database import Database
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class Tasks(tasks_pb2_grpc.TasksServicer):
    """Implements the Tasks service for clients."""

    def __init__(self, database: Database, watcher: Watcher, outputs: Outputs) -> None:
        self._database = database
        self._watcher = watcher
        self._outputs = outputs

    # The stubs know generators only; writing to the context is the other documented way.
    async def FollowOutput(self, request: tasks_pb2.FollowOutputRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Write what an attempt has printed, and go on until it has ended if the client follows it."""
        attempt = request.attempt if request.HasField("attempt") else None
        with self._database.one_incarnation() as unchanged, self._watcher.promised() as leaving:
            pieces = self._outputs.pieces(
                request.task_id, attempt, follow=request.follow, unchanged=unchanged, leaving=leaving
            )
            async with aclosing(pieces):
                async for piece in pieces:
                    await context.write(_to_wire(piece))


def _to_wire(piece: Piece) -> tasks_pb2.OutputPiece:
    return tasks_pb2.OutputPiece(
        attempt=piece.attempt,
        stdout=piece.output.stdout,
        stderr=piece.output.stderr,
        stdout_left_out=piece.output.stdout_left_out,
        stderr_left_out=piece.output.stderr_left_out,
        over=piece.over,
    )
