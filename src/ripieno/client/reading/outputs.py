"""What attempts of tasks have printed, read at once or followed until the attempt has ended."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.domain.errors import UnavailableError
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """What one attempt of a task has printed: all that is kept, or, where it is followed, what is new.

    Attributes:
        attempt: Number of the attempt, from 0.
        stdout: What was written to standard output; bytes, which need not be text.
        stderr: What was written to standard error.
        stdout_left_out: How many bytes are missing before ``stdout``: only the end of much output is kept.
        stderr_left_out: How many bytes are missing before ``stderr``.
        over: Whether the attempt has ended.
    """

    attempt: int
    stdout: bytes
    stderr: bytes
    stdout_left_out: int
    stderr_left_out: int
    over: bool


async def task_output(connection: Connection, task_id: str, attempt: int | None) -> TaskOutput:
    """Return what an attempt has printed so far; ``attempt`` None means the latest.

    Raises:
        NotFoundError: there is no such task, or it has no such attempt.
        RipienoError: the server has no outputs, or no server answered.
    """
    patience = connection.patience("read what a task has printed")
    while True:
        call = connection.stub(tasks_pb2_grpc.TasksStub).FollowOutput(
            tasks_pb2.FollowOutputRequest(task_id=task_id, attempt=attempt)
        )
        try:
            async for piece in call:
                return _of(piece)
            await patience.pause(UnavailableError("it ended the output early"))
        except grpc.aio.AioRpcError as error:
            await patience.pause(error)
        finally:
            call.cancel()


async def follow_task_output(
    connection: Connection, task_id: str, attempt: int | None
) -> AsyncGenerator[TaskOutput, None]:
    """Yield what an attempt prints as it comes, each byte once, until the attempt has ended.

    Raises:
        RipienoError: as for ``task_output``.
    """
    patience = connection.patience("follow what a task prints")
    seen_out = seen_err = 0
    while True:
        request = tasks_pb2.FollowOutputRequest(task_id=task_id, attempt=attempt, follow=True)
        call = connection.stub(tasks_pb2_grpc.TasksStub).FollowOutput(request)
        out_at = err_at = 0
        try:
            async for piece in call:
                patience.renew()
                attempt = piece.attempt  # the same one after a reconnect, which begins anew
                out_at += piece.stdout_left_out + len(piece.stdout)
                err_at += piece.stderr_left_out + len(piece.stderr)
                out, out_left_out = _rest(piece.stdout, out_at - seen_out)
                err, err_left_out = _rest(piece.stderr, err_at - seen_err)
                seen_out, seen_err = max(seen_out, out_at), max(seen_err, err_at)
                if out or err or out_left_out or err_left_out or piece.over:
                    yield TaskOutput(attempt, out, err, out_left_out, err_left_out, piece.over)
                if piece.over:
                    return
            await patience.pause(UnavailableError("it ended the output early"))
        except grpc.aio.AioRpcError as error:
            await patience.pause(error)
        finally:
            call.cancel()


def _rest(data: bytes, new: int) -> tuple[bytes, int]:
    """Return the part of ``data`` among its stream's last ``new`` bytes, and how many of these are missing before it."""
    rest = data[max(0, len(data) - max(0, new)) :]
    return rest, max(0, new - len(rest))


def _of(piece: tasks_pb2.OutputPiece) -> TaskOutput:
    return TaskOutput(
        piece.attempt, piece.stdout, piece.stderr, piece.stdout_left_out, piece.stderr_left_out, piece.over
    )
