"""The flags that say which cluster a command speaks to: ``--address`` and ``--context``."""

from collections.abc import Callable
from typing import Any

import click

from ripieno.cli.calling.completing import context_names
from ripieno.cli.calling.terminal import shown_error
from ripieno.cli.terms.values import server_addresses
from ripieno.config import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from ripieno.contexts import default_place
from ripieno.domain.errors import InvalidRequestError, NotFoundError

_CONTEXT = "ripieno.context"


def how_to_start(address: str) -> str:
    """Return the command that starts a cluster at an address."""
    if address == DEFAULT_ADDRESS or "," in address or address.startswith("unix:"):
        return "`ripieno up`"
    return f"`ripieno up --listen {address}`"


def cluster_address(text: str) -> str:
    """Check a flag's value that must be one or more addresses of a cluster's replicas; return their one spelling."""
    return ",".join(server_addresses(text))


def address_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with ``--address`` and ``--context``; it gets the ``address``, whoever has said it."""
    for flag in (
        click.option(
            "--context",
            metavar="NAME",
            expose_value=False,
            shell_complete=context_names,
            is_eager=True,
            callback=_note_context,
            help="The cluster by its name in your contexts (or in RIPIENO_CONTEXT).",
        ),
        click.option(
            "--address",
            type=cluster_address,
            metavar="HOST:PORT[,...]",
            envvar=ADDRESS_VARIABLE,
            callback=_address,
            help=f"The cluster (or in {ADDRESS_VARIABLE}).  [default: the context in use, else {DEFAULT_ADDRESS}]",
        ),
    ):
        command = flag(command)
    return command


def _note_context(context: click.Context, _flag: click.Parameter, name: str | None) -> None:
    if name is not None:
        context.meta[_CONTEXT] = name


def _address(context: click.Context, flag: click.Parameter, address: str | None) -> str:
    """Return the address that counts: flags before variables, variables before the context in use."""
    named: str | None = context.meta.get(_CONTEXT)
    if named is not None and context.get_parameter_source(str(flag.name)) is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--address and --context both name a cluster: give one of the two")
    if address is not None and named is None:
        return address
    try:
        place = default_place(context=named)
    except InvalidRequestError as error:
        raise click.UsageError(error.detail) from error
    except NotFoundError as error:
        raise shown_error(error) from error
    return cluster_address(place.address)
