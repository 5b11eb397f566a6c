"""The command ``ripieno events``: what there is in sessions, and what changes in them as it happens."""

import json
from collections.abc import Iterator

import click

from ripieno.cli.calling.addresses import address_flags
from ripieno.cli.calling.calls import calling
from ripieno.cli.calling.completing import session_ids
from ripieno.cli.calling.terminal import name, printable
from ripieno.domain.changes import Change, ResultChange, SessionChange
from ripieno.wire.events import change_from_wire
from ripieno.wire.protos.v1 import events_pb2, events_pb2_grpc


@click.command("events")
@click.argument("session_ids", type=name, nargs=-1, metavar="[SESSION]...", shell_complete=session_ids)
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--from", "cursor", metavar="CURSOR", help="Go on behind the events that ended with this cursor.")
@click.option("--new", is_flag=True, help="Leave out what there is; implies --follow.")
@click.option(
    "--output",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    help="Lines for people, or JSON objects, a line each.",
)
@address_flags
def command(
    session_ids: tuple[str, ...], follow: bool, cursor: str | None, new: bool, output: str, address: str
) -> None:
    """What there is in these sessions (none: in all), and what changes in them.

    The last line tells the cursor with which a later call goes on (--from); with --output jsonl each object that ends
    a batch has one.
    """
    request = events_pb2.FollowEventsRequest(session_ids=session_ids, cursor=cursor or "", without_snapshot=new)
    last = ""
    with calling(address, events_pb2_grpc.EventsStub) as stub:
        stream = stub.Follow(request)
        try:
            for batch in stream:
                _print(batch, output)
                last = batch.cursor or last
                if last and not follow and not new:
                    break  # what there is was told, or what came since the cursor
        except KeyboardInterrupt:
            pass
        finally:
            stream.cancel()
            if last and output == "text":
                click.echo(f"cursor {last}", err=True)


def _print(batch: events_pb2.EventBatch, output: str) -> None:
    if batch.restarted:
        _tell({"restarted": batch.restarted}, f"from the beginning: {batch.restarted}", output)
    for fields, line in _events(batch):
        _tell(fields, line, output)
    if batch.cursor and output == "jsonl":
        click.echo(json.dumps({"cursor": batch.cursor}))


def _tell(fields: dict[str, object], line: str, output: str) -> None:
    click.echo(json.dumps(fields) if output == "jsonl" else printable(line))


def _events(batch: events_pb2.EventBatch) -> Iterator[tuple[dict[str, object], str]]:
    """Yield each event as fields and as a line."""
    for event in batch.events:
        if (change := change_from_wire(event)) is not None:
            fields: dict[str, object] = {"at": change.at.isoformat(), "session": change.session_id, **_fields(change)}
            if batch.snapshot:
                fields["snapshot"] = True
            shown = " ".join(f"{key}={value}" for key, value in _fields(change).items() if value not in ("", [], False))
            yield fields, f"{change.at.astimezone().isoformat(timespec='milliseconds')}  {change.session_id}  {shown}"


def _fields(change: Change) -> dict[str, object]:
    if isinstance(change, SessionChange):
        return {"status": change.status.name}
    if isinstance(change, ResultChange):
        return {"result": change.key, "status": change.status.name, "owner": change.owner_task_id, "size": change.size}
    told: dict[str, object] = {"task": change.task_id, "status": change.status.name, "attempt": change.attempt}
    if change.created:
        told |= {"outputs": list(change.expected_output_keys), "dependencies": list(change.data_dependencies)}
    return told | {"ready": change.ready}
