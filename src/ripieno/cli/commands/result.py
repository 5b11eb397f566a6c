"""The command ``ripieno result``: shows and fetches results of tasks."""

from pathlib import Path
from typing import IO

import click

from ripieno.cli.calling.calls import CALL_TIMEOUT_S, cluster_flags, show, submitter
from ripieno.cli.calling.terminal import name, printable
from ripieno.cli.commands.session import check_session
from ripieno.client.terms.errors import task_failure
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2 as messages
from ripieno.wire.statuses import RESULT_FROM_WIRE


@click.group("result")
def command() -> None:
    """What tasks have made."""


@command.command("show")
@click.argument("session_id", type=name)
@click.argument("keys", type=name, nargs=-1, required=True)
@cluster_flags
def show_results(session_id: str, keys: tuple[str, ...], address: str, output: str) -> None:
    """The statuses of results. Keys that the session does not have are named at the end, with exit code 1."""
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
        raise click.ClickException(f"session {printable(session_id)!r} has no result {named}")


@command.command("get")
@click.argument("session_id", type=name)
@click.argument("key", type=name)
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write the bytes into this file.  [default: standard output]")  # fmt: skip
@cluster_flags
def get_result(session_id: str, key: str, target: Path | None, address: str, output: str) -> None:
    """The bytes of a completed result, of any size."""
    del output  # the flag does not apply to raw bytes
    with click.open_file(str(target) if target else "-", "wb", lazy=True, atomic=target is not None) as file:
        _copy(address, objects_pb2.ResultRequest(session=session_id, key=key), file)


def _copy(address: str, request: objects_pb2.ResultRequest, file: IO[bytes]) -> None:
    with submitter(address) as cluster:
        for reply in cluster.TryGetResultStream(request):
            if reply.WhichOneof("type") == "not_completed_task":
                raise click.ClickException(
                    f"result {request.key!r} is not there yet: task {reply.not_completed_task} makes it"
                )
            if reply.WhichOneof("type") == "error":
                raise click.ClickException(str(task_failure(request.key, reply.error)))
            file.write(reply.result.data)
