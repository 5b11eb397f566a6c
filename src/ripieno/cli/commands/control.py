"""The command ``ripieno control``: runs one replica of the control plane."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ripieno.cli.process.inherited import prepare_server
from ripieno.cli.process.serving import prepare_grpc, serve
from ripieno.cli.terms.flags import defaults_of, log_flags, start_logging
from ripieno.cli.terms.limits import limit_flag, limits_from
from ripieno.cli.terms.proxies import keep_loopback_direct
from ripieno.cli.terms.values import Seconds, listen_address
from ripieno.config import DEFAULT_ADDRESS, ControlSettings
from ripieno.domain.addresses import parse_listen_address
from ripieno.up.errors import PortTakenError
from ripieno.up.ports import check_port_is_free
from ripieno.up.tie import DATABASE_VARIABLE

SCHEMES = ("postgresql://", "postgres://")
#: Longest chunk in bytes: a chunk, or inline data, has to fit in one gRPC message of about 4 MiB with room to spare.
LARGEST_CHUNK_BYTES = 3 * 1024 * 1024
DEFAULTS = defaults_of(ControlSettings)


def database_url(text: str) -> str:
    """Check a flag's value that must be the URL of a PostgreSQL database; return it."""
    if not text.startswith(SCHEMES):
        raise click.BadParameter(f"{text!r} is no PostgreSQL URL; write postgresql://user@host:5432/name")
    return text


@click.command()
@click.option("--database", type=database_url, metavar="URL", envvar=DATABASE_VARIABLE, required=True,
              help="The PostgreSQL database, version 15 or newer (or in RIPIENO_DATABASE).")  # fmt: skip
@click.option("--listen", type=listen_address, metavar="HOST:PORT", default=DEFAULT_ADDRESS, show_default=True,
              help="Where to serve; port 0 takes a free one.")  # fmt: skip
@click.option("--objects", metavar="URL|DIR", help="Object store for large data, the same for all replicas.")
@click.option("--name", help="Name of this replica in logs.  [default: host name and process id]")
@click.option("--lease", "lease_s", type=Seconds(min=1), metavar="SECONDS", default=DEFAULTS["lease_s"], show_default=True,
              help="How long an agent may be silent before its tasks are rescued.")  # fmt: skip
@click.option("--drain", "drain_s", type=Seconds(min=0), metavar="SECONDS", default=DEFAULTS["drain_s"], show_default=True,
              help="How long calls under way may go on after the stop.")  # fmt: skip
@click.option("--list-timeout", "list_timeout_s", type=Seconds(min=0.01), metavar="SECONDS", default=DEFAULTS["list_timeout_s"],
              show_default=True, help="How long the database may take for a query to a list.")  # fmt: skip
@click.option("--purge-after", "purge_after_s", type=Seconds(min=0), metavar="SECONDS",
              help="Purge closed and cancelled sessions so long after their end.  [default: never]")  # fmt: skip
@click.option("--delete-after", "delete_after_s", type=Seconds(min=0), metavar="SECONDS",
              help="Delete closed, cancelled and purged sessions so long after their end.  [default: never]")  # fmt: skip
@click.option("--pool-size", type=click.IntRange(min=4), default=DEFAULTS["pool_size"], show_default=True,
              help="Database connections of this replica.")  # fmt: skip
@click.option("--data-chunk-max-size", type=click.IntRange(1, LARGEST_CHUNK_BYTES), metavar="BYTES",
              default=DEFAULTS["data_chunk_max_size"], show_default=True, help="Longest chunk on the wire, told to clients and workers.")  # fmt: skip
@click.option("--inline-limit", "inline_limit_bytes", type=click.IntRange(0, LARGEST_CHUNK_BYTES), metavar="BYTES",
              default=DEFAULTS["inline_limit_bytes"], show_default=True, help="Data up to this size lies in the database.")  # fmt: skip
@limit_flag
@log_flags
def command(name: str | None, log_level: str, log_format: str, log_file: Path | None, **values: Any) -> None:
    """One replica of the control plane.

    Any number of replicas may serve one database. SIGINT or SIGTERM drains and ends it
    with exit code 0.
    """
    prepare_server()
    prepare_grpc()
    keep_loopback_direct()
    from ripieno.control.server import run_control

    if name is not None:
        values["name"] = name
    start_logging(log_level, log_format, log_file)
    settings = ControlSettings(**{**values, "limits": limits_from(values["limits"])})

    async def server(stop: asyncio.Event, on_ready: Callable[[str], None]) -> None:
        try:
            check_port_is_free(parse_listen_address("listen", settings.listen))
        except PortTakenError as error:
            raise click.ClickException(str(error)) from error
        await run_control(settings, stop=stop, on_ready=lambda at: on_ready(f"ripieno control ready at {at}"))

    serve(server)
