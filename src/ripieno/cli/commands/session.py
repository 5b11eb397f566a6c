"""The command ``ripieno session``: lists, shows and cancels sessions, and takes other steps of their lives."""

import click

from ripieno.cli.calling.calls import CALL_TIMEOUT_S, calling, cluster_flags, show_one, submitter
from ripieno.cli.calling.completing import session_ids
from ripieno.cli.calling.listing import Asked, list_flags, show_list
from ripieno.cli.calling.places import SESSIONS
from ripieno.cli.calling.terminal import name, printable
from ripieno.cli.commands.session_steps import STEPS
from ripieno.cli.commands.wait import wait_for_sessions
from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.domain.catalogue import Listed
from ripieno.domain.statuses import SessionStatus, TaskStatus
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2 as messages
from ripieno.wire.protos.armonik_v2.submitter_service_pb2_grpc import SubmitterStub
from ripieno.wire.protos.v1 import sessions_pb2
from ripieno.wire.protos.v1.sessions_pb2_grpc import SessionsStub


@click.group("session")
def command() -> None:
    """The sessions of a cluster."""


for _step in (*STEPS, wait_for_sessions):
    command.add_command(_step)


@command.command("list")
@list_flags(Listed.SESSIONS, "id,status")
def list_sessions(asked: Asked) -> None:
    """All sessions, oldest first, or those that a filter selects."""
    show_list(asked, SESSIONS, {"id": SESSIONS})


@command.command("show")
@click.argument("session_id", type=name, shell_complete=session_ids)
@cluster_flags
def show_session(session_id: str, address: str, output: str) -> None:
    """A session's status and how many of its tasks are in which status."""
    with submitter(address) as cluster:
        check_session(cluster, session_id)
    with calling(address, SessionsStub) as sessions:
        session = sessions.Get(sessions_pb2.SessionId(session_id=session_id), timeout=CALL_TIMEOUT_S)
    tasks = {status.name: session.tasks[status.name] for status in TaskStatus if status.name in session.tasks}
    show_one({"id": session_id, "status": session.status, "tasks": tasks}, output)


@command.command("cancel")
@click.argument("session_id", type=name, shell_complete=session_ids)
@cluster_flags
def cancel_session(session_id: str, address: str, output: str) -> None:
    """Cancel a session: what does not run yet never will, what runs is interrupted."""
    with submitter(address) as cluster:
        check_session(cluster, session_id)
        cluster.CancelSession(messages.Session(id=session_id), timeout=CALL_TIMEOUT_S)
    show_one({"id": session_id, "status": SessionStatus.CANCELLED.name}, output)


def check_session(cluster: SubmitterStub, session_id: str) -> None:
    """Make sure that a session exists.

    Raises:
        click.ClickException: if the cluster has no such session.
    """
    request = messages.SessionFilter(sessions=[session_id])
    if not cluster.ListSessions(request, timeout=CALL_TIMEOUT_S).session_ids:
        raise CommandError(
            f"there is no session {printable(session_id)!r}; `ripieno session list` shows all", ExitCode.NOT_FOUND
        )
