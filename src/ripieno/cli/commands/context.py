"""The command ``ripieno context``: the clusters that a user knows by name."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import click

from ripieno.cli.calling.addresses import cluster_address
from ripieno.cli.calling.completing import context_names
from ripieno.cli.calling.terminal import name, printable, shown_error
from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.contexts import (
    Context,
    Contexts,
    change_contexts,
    contexts_file,
    default_place,
    find_context,
    read_contexts,
)
from ripieno.domain.errors import InvalidRequestError, RipienoError

_output_flag = click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Shape of the answer."
)


class _Group(click.Group):
    """A group whose commands end as others do when the file of contexts cannot be used."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except InvalidRequestError as error:
            raise CommandError(error.detail, ExitCode.USAGE) from error
        except RipienoError as error:
            raise shown_error(error) from error


@click.group("context", cls=_Group)
def command() -> None:
    """The clusters that you know by name, in one file that only you can read.

    Commands and the SDK speak to the first of these that there is: --address or --context, RIPIENO_ADDRESS,
    RIPIENO_CONTEXT, the context in use, 127.0.0.1:5001.
    """


@command.command("add")
@click.argument("context_name", type=name, metavar="NAME")
@click.option(
    "--address", type=cluster_address, metavar="HOST:PORT[,...]", required=True, help="The cluster's replicas."
)
@click.option("--certificate", type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
              help="Certificate that its servers are to be checked against; kept for later.")  # fmt: skip
@click.option(
    "--token", metavar="TEXT|-", help="Secret by which it knows you, - to read it from standard input; kept for later."
)
@click.option("--use", "uses", is_flag=True, help="Use it from now on.")
@click.option("--replace", "replaces", is_flag=True, help="Replace the one of this name, if there is one.")
def add(
    context_name: str, address: str, certificate: Path | None, token: str | None, uses: bool, replaces: bool
) -> None:
    """Add a cluster under a name."""
    secret = sys.stdin.readline().strip() if token == "-" else token or ""  # noqa: S105 - "-" means standard input
    added = Context(address, str(certificate or ""), secret)
    path = contexts_file()

    def change(contexts: Contexts) -> Contexts:
        if context_name in contexts.by_name and not replaces:
            raise CommandError(
                f"there is a context {printable(context_name)!r} already; --replace replaces it", ExitCode.USAGE
            )
        return Contexts({**contexts.by_name, context_name: added}, context_name if uses else contexts.in_use)

    change_contexts(path, change)
    if certificate or secret:
        click.echo(
            "The certificate and the token are kept, and not used yet: this version has no access control.", err=True
        )
    if not uses:
        click.echo(f"`ripieno context use {printable(context_name)}` makes it the one in use.", err=True)


@command.command("use")
@click.argument("context_name", type=name, metavar="NAME", required=False, shell_complete=context_names)
@click.option("--none", "nothing", is_flag=True, help="Use none of them from now on.")
def use(context_name: str | None, nothing: bool) -> None:
    """Use a context from now on, wherever nothing else is named."""
    if nothing == (context_name is not None):
        raise click.UsageError("name the context to use, or give --none")
    path = contexts_file()

    def change(contexts: Contexts) -> Contexts:
        if context_name is not None:
            find_context(contexts, context_name, path)
        return replace(contexts, in_use=context_name or "")

    change_contexts(path, change)


@command.command("list")
@_output_flag
def list_contexts(output: str) -> None:
    """All contexts; a star marks the one in use."""
    contexts = read_contexts(contexts_file())
    rows = [
        {"in_use": each == contexts.in_use, "name": each, "address": context.address}
        for each, context in sorted(contexts.by_name.items())
    ]
    if output == "json":
        click.echo(json.dumps(rows))
        return
    width = max([4, *(len(printable(row["name"])) for row in rows)])
    for row in rows:
        mark = "*" if row["in_use"] else " "
        click.echo(f"{mark} {printable(row['name']):{width}}  {row['address']}")


@command.command("remove")
@click.argument("context_name", type=name, metavar="NAME", shell_complete=context_names)
def remove(context_name: str) -> None:
    """Forget a context. If it is the one in use, none is from then on."""
    path = contexts_file()

    def change(contexts: Contexts) -> Contexts:
        find_context(contexts, context_name, path)
        left = {each: context for each, context in contexts.by_name.items() if each != context_name}
        return Contexts(left, "" if contexts.in_use == context_name else contexts.in_use)

    change_contexts(path, change)


@command.command("show")
@click.argument("context_name", type=name, metavar="[NAME]", required=False, shell_complete=context_names)
@_output_flag
def show(context_name: str | None, output: str) -> None:
    """A context; without a name: which cluster commands speak to now, and who says so. A token is never shown."""
    path = contexts_file()
    if context_name is None:
        place = default_place()
        row: dict[str, object] = {"address": place.address, "from": place.source or "the default"}
    else:
        contexts = read_contexts(path)
        context = find_context(contexts, context_name, path)
        row = {
            "name": context_name,
            "in_use": contexts.in_use == context_name,
            "address": context.address,
            "certificate": context.certificate,
            "token": "kept" if context.token else "",
        }
    row["file"] = str(path)
    if output == "json":
        click.echo(json.dumps(row))
        return
    for key, value in row.items():
        shown = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
        click.echo(f"{key:12} {printable(shown)}".rstrip())
