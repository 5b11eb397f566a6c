"""The root command ``ripieno``, and the table of its subcommands and their modules."""

import errno
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from ripieno.cli.calling.terminal import leave_pipe

#: Command -> module that holds it as ``command``, and its line in the list.
COMMANDS = {
    "up": ("ripieno.cli.commands.up", "A whole cluster on this machine."),
    "control": ("ripieno.cli.commands.control", "One replica of the control plane."),
    "agent": ("ripieno.cli.commands.agent", "An agent with its workers; list them."),
    "worker": ("ripieno.cli.commands.worker", "One Python worker."),
    "map": ("ripieno.cli.commands.map", "A command or a function for each input, on the cluster."),
    "session": ("ripieno.cli.commands.session", "List, show, cancel and wait for sessions."),
    "task": ("ripieno.cli.commands.task", "List, show, cancel and wait for tasks."),
    "partition": ("ripieno.cli.commands.partition", "List partitions."),
    "result": ("ripieno.cli.commands.result", "Show, fetch and wait for results."),
    "replay": ("ripieno.cli.commands.replay", "A task of the past, run again here, and compared."),
    "explain": ("ripieno.cli.commands.explain", "Why a task is not running, or why it failed."),
    "top": ("ripieno.cli.commands.top", "What a cluster does, live in the terminal."),
    "events": ("ripieno.cli.commands.events", "What there is and what changes, as it happens."),
    "context": ("ripieno.cli.commands.context", "The clusters that you know by name."),
    "bench": ("ripieno.cli.commands.bench", "How fast a cluster is."),
    "completion": ("ripieno.cli.commands.completion", "What your shell needs to complete commands and ids."),
    "version": ("ripieno.cli.commands.version", "What is installed here."),
}


class LazyCommands(click.Group):
    """A click group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, importing its module; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name.

        Raises:
            click.UsageError: if there is none; the text names the one that was probably meant.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args and (meant := get_close_matches(args[0], COMMANDS, n=1)):
                raise click.UsageError(f"{error.message} Did you mean {meant[0]!r}?", ctx) from error
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name; quietly to its end if the reader of its output goes away."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            raise click.exceptions.Exit(leave_pipe()) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for ``--help``, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("ripieno"), prog_name="ripieno")
def cli() -> None:
    """Run tasks on many workers and lose none.

    Start with `ripieno up`: it runs a whole cluster on this machine.
    """
