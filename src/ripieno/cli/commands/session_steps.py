"""The commands of ``ripieno session`` that take a step of a session's life."""

from collections.abc import Callable

import click

from ripieno.cli.calling.calls import CALL_TIMEOUT_S, calling, cluster_flags, show_one
from ripieno.cli.calling.completing import session_ids
from ripieno.cli.calling.terminal import name
from ripieno.domain.statuses import SessionStatus
from ripieno.wire.protos.v1 import sessions_pb2
from ripieno.wire.protos.v1.sessions_pb2_grpc import SessionsStub

#: A step waits until it is complete: of a session with millions of tasks that wait, this takes a while.
_STEP_TIMEOUT_S = 600.0

_Call = Callable[[SessionsStub], Callable[..., sessions_pb2.Session]]


def _step(name_: str, help_: str, call: _Call) -> click.Command:
    """Return a command that calls one method with a session's id, and shows the session as it is afterwards."""

    @click.command(name_, help=help_)
    @click.argument("session_id", type=name, shell_complete=session_ids)
    @cluster_flags
    def command(session_id: str, address: str, output: str) -> None:
        with calling(address, SessionsStub) as cluster:
            session = call(cluster)(sessions_pb2.SessionId(session_id=session_id), timeout=_STEP_TIMEOUT_S)
        _show(session, output)

    return command


@click.command("stop-submission")
@click.argument("session_id", type=name, shell_complete=session_ids)
@click.option("--clients", is_flag=True, help="Clients may submit no more tasks.")
@click.option("--workers", is_flag=True, help="Workers may submit no more: a task that creates sub-tasks fails.")
@cluster_flags
def _stop_submission(session_id: str, clients: bool, workers: bool, address: str, output: str) -> None:
    """Stop the submission of tasks to a session for good: by --clients, by --workers, or both."""
    if not (clients or workers):
        raise click.UsageError("say whose submission is to stop: --clients, --workers, or both")
    request = sessions_pb2.StopSubmissionRequest(session_id=session_id, client=clients, worker=workers)
    with calling(address, SessionsStub) as cluster:
        session = cluster.StopSubmission(request, timeout=CALL_TIMEOUT_S)
    _show(session, output)


@click.command("delete")
@click.argument("session_id", type=name, shell_complete=session_ids)
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_flags
def _delete(session_id: str, yes: bool, address: str, output: str) -> None:
    """Delete a session with all its tasks and results; what runs is interrupted. Its id cannot be used for a year."""
    if not yes:
        click.confirm(f"Delete session {session_id!r} with all that it has?", abort=True, err=True)
    with calling(address, SessionsStub) as cluster:
        cluster.Delete(sessions_pb2.SessionId(session_id=session_id), timeout=_STEP_TIMEOUT_S)
    show_one({"id": session_id, "status": SessionStatus.DELETED.name}, output)


def _show(session: sessions_pb2.Session, output: str) -> None:
    row = {
        "id": session.id,
        "status": session.status,
        "client_submission": session.client_submission,
        "worker_submission": session.worker_submission,
        "tasks": dict(sorted(session.tasks.items())),
        "stored_bytes": session.stored_bytes,
    }
    show_one(row, output)


#: The commands, for the group ``ripieno session``.
STEPS = [
    _step(
        "pause",
        "Pause a session: none of its tasks is handed to an agent any more; what runs ends.",
        lambda cluster: cluster.Pause,
    ),
    _step("resume", "Resume a session that is paused.", lambda cluster: cluster.Resume),
    _step(
        "close",
        "Close a session for good: it takes no more tasks, and those that it has end.",
        lambda cluster: cluster.Close,
    ),
    _step(
        "purge",
        "Delete the data of a session that is closed or cancelled, and has ended; its tasks and their statuses stay.",
        lambda cluster: cluster.Purge,
    ),
    _stop_submission,
    _delete,
]
