"""The command ``ripieno session``: lists, shows and cancels sessions, and takes other steps of their lives."""

import click

from ripieno.cli.calling.calls import CALL_TIMEOUT_S, cluster_flags, show, show_one, submitter
from ripieno.cli.calling.terminal import name, printable
from ripieno.cli.commands.session_steps import STEPS
from ripieno.domain.statuses import SessionStatus
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2 as messages
from ripieno.wire.protos.armonik_v2.submitter_service_pb2_grpc import SubmitterStub
from ripieno.wire.statuses import SESSION_TO_WIRE, TASK_FROM_WIRE


@click.group("session")
def command() -> None:
    """The sessions of a cluster."""


for _step in STEPS:
    command.add_command(_step)


@command.command("list")
@cluster_flags
def list_sessions(address: str, output: str) -> None:
    """All sessions, oldest first."""
    with submitter(address) as cluster:
        ids = list(cluster.ListSessions(messages.SessionFilter(), timeout=CALL_TIMEOUT_S).session_ids)
        cancelled = set(_with_status(cluster, SessionStatus.CANCELLED))
    statuses = {True: SessionStatus.CANCELLED.name, False: SessionStatus.RUNNING.name}
    show([{"id": id_, "status": statuses[id_ in cancelled]} for id_ in ids], ["id", "status"], output)


@command.command("show")
@click.argument("session_id", type=name)
@cluster_flags
def show_session(session_id: str, address: str, output: str) -> None:
    """A session's status and how many of its tasks are in which status."""
    with submitter(address) as cluster:
        check_session(cluster, session_id)
        cancelled = _with_status(cluster, SessionStatus.CANCELLED, session_id)
        counts = cluster.CountTasks(
            messages.TaskFilter(session=messages.TaskFilter.IdsRequest(ids=[session_id])), timeout=CALL_TIMEOUT_S
        )
    status = SessionStatus.CANCELLED if cancelled else SessionStatus.RUNNING
    tasks = {TASK_FROM_WIRE[entry.status].name: entry.count for entry in counts.values}
    show_one({"id": session_id, "status": status.name, "tasks": tasks}, output)


@command.command("cancel")
@click.argument("session_id", type=name)
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
        raise click.ClickException(f"there is no session {printable(session_id)!r}; `ripieno session list` shows all")


def _with_status(cluster: SubmitterStub, status: SessionStatus, *session_ids: str) -> list[str]:
    included = messages.SessionFilter.StatusesRequest(statuses=[SESSION_TO_WIRE[status]])
    request = messages.SessionFilter(sessions=session_ids, included=included)
    return list(cluster.ListSessions(request, timeout=CALL_TIMEOUT_S).session_ids)
