"""The command ``ripieno agent``: runs an agent with its workers, or lists those of a cluster."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ripieno.cli.calling.listing import Asked, list_flags, show_list
from ripieno.cli.calling.places import AGENTS
from ripieno.cli.calling.terminal import name as name_of
from ripieno.cli.process.inherited import prepare_server
from ripieno.cli.process.serving import prepare_grpc, raise_open_files, serve
from ripieno.cli.terms.cores import usable_cores
from ripieno.cli.terms.flags import (
    check_worker_flags,
    defaults_of,
    log_flags,
    slots_in_words,
    start_logging,
    worker_flags,
)
from ripieno.cli.terms.values import Seconds, server_addresses
from ripieno.config import ADDRESS_VARIABLE, DEFAULT_ADDRESS, AgentSettings
from ripieno.domain.catalogue import Listed
from ripieno.up.tie import AGENT_VARIABLE, PREDECESSOR_VARIABLE

DEFAULTS = defaults_of(AgentSettings)


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--control", type=server_addresses, metavar="HOST:PORT[,...]", envvar=ADDRESS_VARIABLE,
              default=DEFAULT_ADDRESS, show_default=True,
              help="Replicas of the control plane; any of them will do.")  # fmt: skip
@worker_flags
@click.option("--partition", "partitions", type=name_of, multiple=True, metavar="NAME",
              help="Partition to serve, once for each.  [default: the default partition alone]")  # fmt: skip
@click.option("--name", help="Name of this agent in logs and lists.  [default: host name and process id]")
@click.option("--drain", "drain_s", type=Seconds(min=0), metavar="SECONDS", default=DEFAULTS["drain_s"], show_default=True,
              help="How long running attempts may go on after the stop.")  # fmt: skip
@click.option("--cancel-grace", "cancel_grace_s", type=Seconds(min=0), metavar="SECONDS", default=DEFAULTS["cancel_grace_s"],
              show_default=True,
              help="How long a cancelled worker may go on before it is replaced.")  # fmt: skip
@click.option("--cache", "cache_bytes", type=click.IntRange(min=0), metavar="BYTES", default=DEFAULTS["cache_bytes"],
              show_default=True, help="Memory for results that several tasks read.")  # fmt: skip
@click.option("--scratch", type=click.Path(file_okay=False, path_type=Path),
              help="Directory for sockets and spilled data.  [default: a temporary one]")  # fmt: skip
@click.option("--worker-logs", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Directory for what workers print, a file for each slot, kept small.  [default: standard error]")  # fmt: skip
@log_flags
def command(
    context: click.Context,
    slots: int | None,
    name: str | None,
    log_level: str,
    log_format: str,
    log_file: Path | None,
    **values: Any,
) -> None:
    """An agent: it takes tasks from the control plane and runs them on workers.

    SIGINT or SIGTERM lets running attempts finish, gives the others back, and ends it with
    exit code 0. `ripieno agent list` shows the agents of a cluster, and runs none.
    """
    if context.invoked_subcommand is not None:
        return
    check_worker_flags(values["worker"], values["attach"])
    prepare_server()
    prepare_grpc()
    from ripieno.agent.main import run_agent

    if name is not None:
        values["name"] = name
    values.update(_identity())
    start_logging(log_level, log_format, log_file)
    count = len(values["attach"]) or slots or usable_cores()
    settings = AgentSettings(slots=count, worker_open_files=raise_open_files(), **values)

    line = f"ripieno agent ready, connected to {','.join(settings.control)} ({slots_in_words(settings.slots)})"

    async def server(stop: asyncio.Event, on_ready: Callable[[str], None]) -> None:
        await run_agent(settings, stop=stop, on_ready=lambda: on_ready(line))

    serve(server)


@command.command("list")
@list_flags(Listed.AGENTS, "name,connected,slots,held,partitions")
def list_agents(asked: Asked) -> None:
    """Agents that are connected, and those that were within the last day."""
    show_list(asked, AGENTS, {"id": AGENTS})


def _identity() -> dict[str, bytes]:
    """Take this agent's id and its predecessor's from the environment, where ``ripieno up`` has set them."""
    names = {"agent_id": AGENT_VARIABLE, "predecessor": PREDECESSOR_VARIABLE}
    told = {field: os.environ.pop(variable, "") for field, variable in names.items()}
    return {field: bytes.fromhex(value) for field, value in told.items() if value}
