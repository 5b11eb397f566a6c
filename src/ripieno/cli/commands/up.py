"""The command ``ripieno up``: runs a whole cluster on this machine."""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from ripieno.cli.commands.control import database_url
from ripieno.cli.process.inherited import prepare_server, stop_signals
from ripieno.cli.terms.cores import usable_cores
from ripieno.cli.terms.flags import check_worker_flags, defaults_of, slots_in_words, worker_flags
from ripieno.cli.terms.limits import limit_flag, limits_from
from ripieno.cli.terms.values import Seconds, directory, listen_address
from ripieno.config import DEFAULT_ADDRESS, AgentSettings
from ripieno.domain.addresses import TcpAddress, parse_listen_address

if TYPE_CHECKING:
    from ripieno.up.settings import UpSettings


@click.command()
@click.option("--data", type=directory, metavar="DIR", default="./.ripieno", show_default=True,
              help="Directory of everything that is kept between runs.")  # fmt: skip
@click.option("--listen", type=listen_address, metavar="HOST:PORT", default=DEFAULT_ADDRESS, show_default=True,
              help="Where clients connect; port 0 takes a free one.")  # fmt: skip
@worker_flags
@click.option("--database", type=database_url, metavar="URL",
              help="A PostgreSQL database to use instead of the embedded server.")  # fmt: skip
@limit_flag
@click.option("--drain", "drain_s", type=Seconds(min=0), metavar="SECONDS",
              default=defaults_of(AgentSettings)["drain_s"], show_default=True,
              help="How long running attempts may go on after the stop.")  # fmt: skip
@click.option("--ephemeral", is_flag=True, hidden=True,
              help="Keep nothing: data in a temporary directory, and stop when standard input ends.")  # fmt: skip
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
              show_default=True, help="Least severe level in DIR/logs/*.log.")  # fmt: skip
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Shape of log lines.")  # fmt: skip
def command(
    data: Path,
    listen: str,
    slots: int | None,
    worker: str | None,
    attach: tuple[str, ...],
    pass_environment: tuple[str, ...],
    output_bytes: int,
    database: str | None,
    limits: tuple[tuple[str, int], ...],
    drain_s: float,
    ephemeral: bool,
    log_level: str,
    log_format: str,
) -> None:
    """A whole cluster on this machine: database, control plane, agent, workers.

    Prints one line when it serves. Ctrl-C (or SIGTERM) drains and stops it with exit code
    0; a second one hurries. What was submitted is still there at the next start.
    """
    check_worker_flags(worker, attach)
    if os.name != "posix":
        raise click.ClickException("`ripieno up` runs on Linux and macOS; here, connect to a cluster on one of them")
    prepare_server()
    from ripieno.telemetry import LogSettings
    from ripieno.up.cluster import run_up
    from ripieno.up.errors import UpError
    from ripieno.up.settings import UpSettings

    kept = ExitStack()
    if ephemeral:
        data = Path(kept.enter_context(TemporaryDirectory(prefix="ripieno-", ignore_cleanup_errors=True)))
    settings = UpSettings(
        data=data,
        listen=parse_listen_address("listen", listen),
        slots=len(attach) or slots or usable_cores(),
        worker=worker,
        attach=attach,
        pass_environment=pass_environment,
        output_bytes=output_bytes,
        database=database,
        limits=limits_from(limits),
        drain_s=drain_s,
        logs=LogSettings(level=log_level, json=log_format == "json"),
    )

    async def until_stopped() -> None:
        stop, hurry = _on_signals()
        if ephemeral:
            _stop_with_input(stop, hurry)
        await run_up(settings, stop=stop, hurry=hurry, on_ready=lambda address: _announce(address, settings))

    with kept:
        try:
            asyncio.run(until_stopped())
        except UpError as error:
            raise click.ClickException(str(error)) from error


def _on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Handle stop signals from now on; return the events that the first and the second one set."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
            return
        stop.set()
        click.echo("ripieno: draining; once more to hurry", err=True)

    for number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop, hurry


def _stop_with_input(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    """Stop at once when standard input ends: the program that started us has ended, and nothing is kept."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()
            hurry.set()

    loop.add_reader(0, read)


def _announce(address: TcpAddress, settings: "UpSettings") -> None:
    slots = slots_in_words(settings.slots)
    listening = "" if address == address.reachable else f"listening at {address}, "
    click.echo(
        f"ripieno ready at {address.reachable} ({listening}data {settings.data}, {slots}; Ctrl-C drains and stops)"
    )
