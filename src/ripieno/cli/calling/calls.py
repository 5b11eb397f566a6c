"""Calling a cluster from a command: its address, its errors, the printing of answers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, cast

import click
import grpc
from rich.cells import cell_len

from ripieno.cli.calling.addresses import address_flags, how_to_start
from ripieno.cli.calling.terminal import one_line, printable
from ripieno.cli.terms.exit_codes import CommandError, code_of_call
from ripieno.config import ADDRESS_VARIABLE
from ripieno.domain.addresses import Address, parse_addresses
from ripieno.wire.channels import open_blocking_channel
from ripieno.wire.protos.armonik_v2.submitter_service_pb2_grpc import SubmitterStub
from ripieno.wire.unreachable import cause_in_words, is_no_cluster

#: Time limit of a look-up in seconds; one that takes longer is stuck.
CALL_TIMEOUT_S = 30.0
#: A replica that takes no connection within this many seconds is passed over, if there is another.
CONNECT_TIMEOUT_S = 2.0

Row = Mapping[str, Any]
StubT = TypeVar("StubT")


def cluster_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with ``--address``, ``--context`` and ``--output``."""
    output = click.option(
        "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Shape of the answer."
    )
    return address_flags(output(command))


@contextmanager
def calling(address: str, stub: Callable[[grpc.Channel], StubT]) -> Iterator[StubT]:
    """Open a stub of one of the cluster's services, for the time of the context.

    Raises:
        click.ClickException: if a call inside the context failed; the text is the cluster's.
    """
    with _open(parse_addresses("address", address)) as channel:
        try:
            yield stub(channel)
        except grpc.RpcError as error:
            # gRPC raises errors of calls that are Calls as well, which the type does not say.
            call = cast(grpc.Call, error)
            raise CommandError(_what_happened(address, call), code_of_call(call.code())) from error


def submitter(address: str) -> AbstractContextManager[SubmitterStub]:
    """Open a stub of the cluster's Submitter service, as ``calling`` does."""
    return calling(address, SubmitterStub)


def _open(addresses: Sequence[Address]) -> grpc.Channel:
    """Open a channel to the first of these replicas that takes connections; to the last one if none does."""
    for address in addresses[:-1]:
        channel = open_blocking_channel(address)
        try:
            grpc.channel_ready_future(channel).result(CONNECT_TIMEOUT_S)
        except grpc.FutureTimeoutError:
            channel.close()
        else:
            return channel
    return open_blocking_channel(addresses[-1])


def _what_happened(address: str, call: grpc.Call) -> str:
    code, details = call.code(), one_line(cause_in_words(call.details() or ""))
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        details = f"within {CALL_TIMEOUT_S:g} s"
    if code == grpc.StatusCode.UNAVAILABLE and is_no_cluster(call.details() or ""):
        return f"{details} ({address}): name another address with --address or {ADDRESS_VARIABLE}"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return (
            f"no answer from {address} ({details}): start a cluster there with {how_to_start(address)}, "
            f"or name another one with --address, --context or {ADDRESS_VARIABLE}"
        )
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return f"what listens at {address} is not a cluster of this kind ({details}); name another address"
    return details or f"the cluster answered {code.name}"


def show(rows: Sequence[Row], columns: Sequence[str], output: str) -> None:
    """Print a list: a table for people, one JSON array for programs."""
    if output == "json":
        click.echo(json.dumps([{column: row[column] for column in columns} for row in rows]))
        return
    lines = [[printable(row[column]) for column in columns] for row in ({name: name for name in columns}, *rows)]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def show_one(row: Row, output: str) -> None:
    """Print one thing: a field a line for people, one JSON object for programs."""
    if output == "json":
        click.echo(json.dumps(dict(row)))
        return
    width = max(12, *map(len, row))
    for name, value in row.items():
        # Only a reason may have several lines.
        lines = [printable(line) for line in str(value).split("\n")]
        click.echo((f"{name:{width}} " + "\n".join(lines)).rstrip())
