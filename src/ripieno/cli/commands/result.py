"""The command ``ripieno result``: lists, shows, fetches, stores and deletes results."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from ripieno.cli.calling.calls import CALL_TIMEOUT_S, cluster_flags, show, show_one, submitter
from ripieno.cli.calling.completing import result_keys, session_ids
from ripieno.cli.calling.listing import Asked, list_flags, show_list
from ripieno.cli.calling.places import RESULTS, SESSIONS
from ripieno.cli.calling.terminal import name, printable, shown_error
from ripieno.cli.commands.session import check_session
from ripieno.cli.commands.wait import wait_for_results
from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.client import Client, Session
from ripieno.client.terms.errors import task_failure
from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import RipienoError
from ripieno.domain.statuses import ResultStatus
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2 as messages
from ripieno.wire.statuses import RESULT_FROM_WIRE

#: Seconds for which calls are repeated while no server answers.
_PATIENCE_S = 10.0

#: Files of this size or more are uploaded with a bar.
_LARGE_BYTES = 64 * 1024 * 1024


@click.group("result")
def command() -> None:
    """What tasks have made, and what clients have stored for them."""


command.add_command(wait_for_results)


@command.command("list")
@click.argument("session_id", type=name, required=False, shell_complete=session_ids)
@list_flags(Listed.RESULTS, "key,status")
def list_results(asked: Asked, session_id: str | None) -> None:
    """The results of a session (of all sessions, if none is named), by their keys."""
    if session_id is not None:
        asked = asked.among("session_id", [session_id])
    show_list(asked, RESULTS, {"session_id": SESSIONS})


@command.command("show")
@click.argument("session_id", type=name, shell_complete=session_ids)
@click.argument("keys", type=name, nargs=-1, required=True, shell_complete=result_keys)
@cluster_flags
def show_results(session_id: str, keys: tuple[str, ...], address: str, output: str) -> None:
    """The statuses of results. Keys that the session does not have are named at the end, with exit code 3."""
    request = messages.GetResultStatusRequest(session_id=session_id, result_ids=keys)
    with submitter(address) as cluster:
        reply = cluster.GetResultStatus(request, timeout=CALL_TIMEOUT_S)
        rows = [{"key": entry.result_id, "status": RESULT_FROM_WIRE[entry.status].name} for entry in reply.id_statuses]
        known = {row["key"] for row in rows}
        unknown = [key for key in keys if key not in known]
        if unknown:
            check_session(cluster, session_id)
    if rows or output == "json":
        show(rows, ["key", "status"], output)
    if unknown:
        named = ", ".join(repr(printable(key)) for key in dict.fromkeys(unknown))
        raise CommandError(f"session {printable(session_id)!r} has no result {named}", ExitCode.NOT_FOUND)


@command.command("get")
@click.argument("session_id", type=name, shell_complete=session_ids)
@click.argument("key", type=name, shell_complete=result_keys)
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write the bytes into this file.  [default: standard output]")  # fmt: skip
@cluster_flags
def get_result(session_id: str, key: str, target: Path | None, address: str, output: str) -> None:
    """The bytes of a completed result, of any size."""
    del output  # the flag does not apply to raw bytes
    with click.open_file(str(target) if target else "-", "wb", lazy=True, atomic=target is not None) as file:
        _copy(address, objects_pb2.ResultRequest(session=session_id, key=key), file)


@command.command("put")
@click.argument("session_id", type=name, shell_complete=session_ids)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", "result_name", default="", help="A name for people.  [default: that of the file]")
@cluster_flags
def put_result(session_id: str, file: Path, result_name: str, address: str, output: str) -> None:
    """Store a file, of any size, as a result. Prints its key, which tasks may name as a dependency or as their payload."""
    size = file.stat().st_size
    with _session(address, session_id) as session, _bar(size) as progress:
        stored = session.put(file, name=result_name or file.name, progress=progress)
    if output == "json":
        show_one({"key": stored.key, "name": stored.name, "size": size}, output)
    else:
        click.echo(stored.key)


@command.command("delete")
@click.argument("session_id", type=name, shell_complete=session_ids)
@click.argument("keys", type=name, nargs=-1, required=True, shell_complete=result_keys)
@cluster_flags
def delete_results(session_id: str, keys: tuple[str, ...], address: str, output: str) -> None:
    """Delete the data of completed results; tasks that need it fail.

    Keys whose data was not there are named at the end, with exit code 3.
    """
    with _session(address, session_id) as session:
        deleted = session.delete_data(keys)
    rows = [{"key": key, "status": ResultStatus.DELETED.name} for key in deleted]
    if rows or output == "json":
        show(rows, ["key", "status"], output)
    if left := [key for key in dict.fromkeys(keys) if key not in deleted]:
        named = ", ".join(repr(printable(key)) for key in left)
        raise CommandError(f"session {printable(session_id)!r} has no data of {named}", ExitCode.NOT_FOUND)


@contextmanager
def _session(address: str, session_id: str) -> Iterator[Session]:
    """Open a session with the client SDK; its errors become those of the command."""
    with Client(address, patience=_PATIENCE_S) as client:
        try:
            yield client.open_session(session_id)
        except RipienoError as error:
            raise shown_error(error) from error


@contextmanager
def _bar(size: int) -> Iterator[Callable[[int], None] | None]:
    """Show how far a large file has come, on a terminal."""
    if size < _LARGE_BYTES or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=size, file=sys.stderr) as bar:
        yield lambda safe: bar.update(safe - bar.pos)


def _copy(address: str, request: objects_pb2.ResultRequest, file: IO[bytes]) -> None:
    with submitter(address) as cluster:
        for reply in cluster.TryGetResultStream(request):
            if reply.WhichOneof("type") == "not_completed_task":
                who = (
                    f"task {reply.not_completed_task} makes it"
                    if reply.not_completed_task
                    else "nobody has uploaded it"
                )
                raise CommandError(f"result {request.key!r} is not there yet: {who}")
            if reply.WhichOneof("type") == "error":
                raise CommandError(str(task_failure(request.key, reply.error)))
            file.write(reply.result.data)
