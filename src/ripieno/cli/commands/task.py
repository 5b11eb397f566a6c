"""The command ``ripieno task``: lists, shows, cancels and retries tasks, and prints what they have printed."""

import sys
from typing import BinaryIO

import click

from ripieno.cli.calling.calls import CALL_TIMEOUT_S, Row, calling, cluster_flags, show, show_one, submitter
from ripieno.cli.calling.completing import session_ids, task_ids
from ripieno.cli.calling.listing import Asked, list_flags, show_list
from ripieno.cli.calling.places import SESSIONS, TASKS
from ripieno.cli.calling.terminal import name
from ripieno.cli.commands.retry import retry_tasks
from ripieno.cli.commands.wait import wait_for_tasks
from ripieno.domain.catalogue import Listed
from ripieno.domain.statuses import TaskStatus
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2 as messages
from ripieno.wire.protos.armonik_v2.submitter_service_pb2_grpc import SubmitterStub
from ripieno.wire.protos.v1 import tasks_pb2
from ripieno.wire.protos.v1.tasks_pb2_grpc import TasksStub
from ripieno.wire.statuses import TASK_FROM_WIRE

#: Most ids in one GetTaskStatus request.
IDS_A_CALL = 5_000


@click.group("task")
def command() -> None:
    """The tasks of a cluster."""


command.add_command(retry_tasks)
command.add_command(wait_for_tasks)


@command.command("list")
@click.argument("session_id", type=name, required=False, shell_complete=session_ids)
@click.option("--status", "statuses", multiple=True, type=click.Choice([status.name for status in TaskStatus], False),
              help="Only tasks in this status; once for each.")  # fmt: skip
@list_flags(Listed.TASKS, "id,status")
def list_tasks(asked: Asked, session_id: str | None, statuses: tuple[str, ...]) -> None:
    """The tasks of a session (of all sessions, if none is named), in order of submission."""
    if statuses:
        asked = asked.among("status", [status.upper() for status in statuses])
    if session_id is not None:
        asked = asked.among("session_id", [session_id])
    show_list(asked, TASKS, {"session_id": SESSIONS, "id": TASKS})


@command.command("show")
@click.argument("task_id", type=name, shell_complete=task_ids)
@cluster_flags
def show_task(task_id: str, address: str, output: str) -> None:
    """A task's status, and why it is not COMPLETED."""
    with submitter(address) as cluster:
        answer = cluster.TryGetTaskOutput(objects_pb2.ResultRequest(key=task_id), timeout=CALL_TIMEOUT_S)
        [row] = _statuses(cluster, [task_id])
    reason = answer.error.details if answer.WhichOneof("type") == "error" else ""
    show_one({**row, "reason": reason}, output)


@command.command("cancel")
@click.argument("task_ids", type=name, nargs=-1, required=True, shell_complete=task_ids)
@cluster_flags
def cancel_tasks(task_ids: tuple[str, ...], address: str, output: str) -> None:
    """Cancel tasks that are not finished; show what became of each."""
    request = messages.TaskFilter(task=messages.TaskFilter.IdsRequest(ids=task_ids))
    with submitter(address) as cluster:
        cluster.CancelTasks(request, timeout=CALL_TIMEOUT_S)
        rows = _statuses(cluster, list(task_ids))
    show(rows, ["id", "status"], output)


@command.command("logs")
@click.argument("task_id", type=name, shell_complete=task_ids)
@click.option("--attempt", type=click.IntRange(min=0), metavar="N",
              help="Number of the attempt, from 0.  [default: the latest]")  # fmt: skip
@click.option("--stdout", "streams", flag_value="stdout", help="Only what was written to standard output.")
@click.option("--stderr", "streams", flag_value="stderr", help="Only what was written to standard error.")
@click.option("--follow", is_flag=True, help="Go on until the attempt has ended.")
@cluster_flags
def show_logs(task_id: str, attempt: int | None, streams: str | None, follow: bool, address: str, output: str) -> None:
    """What a worker printed while it ran a task: its standard output, and its standard error on standard error.

    The end of each is kept (64 KiB, unless the agent was told otherwise). With --stderr alone it goes to standard
    output.
    """
    del output  # the flag does not apply to raw bytes
    request = tasks_pb2.FollowOutputRequest(task_id=task_id, attempt=attempt, follow=follow)
    out, err = sys.stdout.buffer, sys.stdout.buffer if streams == "stderr" else sys.stderr.buffer
    with calling(address, TasksStub) as cluster:
        for piece in cluster.FollowOutput(request, timeout=None if follow else CALL_TIMEOUT_S):
            if streams != "stderr":
                _print("standard output", piece.stdout, piece.stdout_left_out, out)
            if streams != "stdout":
                _print("standard error", piece.stderr, piece.stderr_left_out, err)


def _print(stream: str, data: bytes, left_out: int, to: BinaryIO) -> None:
    if left_out:
        click.echo(f"[{left_out:,} bytes of {stream} before this are not kept]", err=True)
    if data:
        to.write(data)
        to.flush()


def _statuses(cluster: SubmitterStub, ids: list[str]) -> list[Row]:
    rows: list[Row] = []
    for first in range(0, len(ids), IDS_A_CALL):
        request = messages.GetTaskStatusRequest(task_ids=ids[first : first + IDS_A_CALL])
        reply = cluster.GetTaskStatus(request, timeout=CALL_TIMEOUT_S)
        rows += [{"id": entry.task_id, "status": TASK_FROM_WIRE[entry.status].name} for entry in reply.id_statuses]
    return rows
