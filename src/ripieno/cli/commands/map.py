"""The command ``ripieno map``: a command or a function for each of many inputs, on the cluster."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ripieno.cli.calling.addresses import address_flags
from ripieno.cli.calling.terminal import name
from ripieno.cli.terms.values import Seconds
from ripieno.domain.options import MAX_PRIORITY, MAX_RETRIES, MIN_PRIORITY

if TYPE_CHECKING:
    from ripieno.cli.mapping.starting import Start

#: How the id of the session of a job begins.
_PREFIX = "map-"
#: The time limit of an attempt unless another one is given: in effect, none.
_LONGEST_S = 30 * 24 * 3600.0


def _variables(_context: click.Context, _flag: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Read the values of --env: NAME=VALUE, or NAME for the value that it has here."""
    variables: dict[str, str] = {}
    for each in given:
        variable, has_value, value = each.partition("=")
        if not variable:
            raise click.BadParameter(
                f"{each!r} names no variable; write NAME=VALUE, or NAME for the value that it has here"
            )
        if not has_value and variable not in os.environ:
            raise click.BadParameter(f"{variable} is not set here; write {variable}=VALUE")
        variables[variable] = value if has_value else os.environ[variable]
    return variables


@click.command("map")
@click.argument("command_line", metavar="COMMAND")
@click.argument("texts", metavar="[INPUTS]...", nargs=-1)
@click.option("--input", "input_", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE",
              help="Inputs are the lines of a file; - is standard input.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write results to a file, which appears when all are there.  [default: standard output]")  # fmt: skip
@click.option("--name", "name_", type=name, metavar="NAME",
              help="Name of the job, by which another run finds its session, map-NAME.  [default: from COMMAND and inputs]")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Delete what earlier runs of the job have made, and run all inputs.")
@click.option("--keep-going/--fail-fast", default=True, show_default=True,
              help="Run the other inputs when one has failed, or stop.")  # fmt: skip
@click.option("--retry-failed/--no-retry-failed", default=True, show_default=True,
              help="Run again what failed in an earlier run.")  # fmt: skip
@click.option("--retries", type=click.IntRange(0, MAX_RETRIES), metavar="N",
              help="How many attempts may follow a failed one.  [default: 0]")  # fmt: skip
@click.option("--max-duration", type=Seconds(min=0, min_open=True), metavar="SECONDS",
              help="Time limit of an attempt.  [default: 30 days]")  # fmt: skip
@click.option(
    "--priority", type=click.IntRange(MIN_PRIORITY, MAX_PRIORITY), help="Urgency; larger is more urgent.  [default: 1]"
)
@click.option("--partition", type=name, metavar="NAME", help="Pool of workers.  [default: the default partition]")
@click.option("--tag", is_flag=True,
              help="Begin each line of output with its input and a tab; with a function, make each line an object with"
                   " number, input and result (or error).")  # fmt: skip
@click.option("--cwd", metavar="DIR", help="Directory on the workers in which commands run; - is that of the worker."
                                           "  [default: the current one]")  # fmt: skip
@click.option("--env", "variables", multiple=True, callback=_variables, metavar="NAME[=VALUE]",
              help="Environment variable for commands, with the value that it has here unless one is given.")  # fmt: skip
@click.option(
    "--kwargs", "spread", is_flag=True, help="With a function: each input is a JSON object of keyword arguments."
)
@click.option(
    "--local", is_flag=True, help="Start a cluster on this machine for this run; it ends with it, and its data goes."
)
@address_flags
@click.pass_context
def command(
    context: click.Context,
    command_line: str,
    texts: tuple[str, ...],
    input_: str | None,
    output: Path | None,
    name_: str | None,
    fresh: bool,
    keep_going: bool,
    retry_failed: bool,
    retries: int | None,
    max_duration: float | None,
    priority: int | None,
    partition: str | None,
    tag: bool,
    cwd: str | None,
    variables: dict[str, str],
    spread: bool,
    local: bool,
    address: str,
) -> None:
    """Run COMMAND, or call the function MODULE:FUNCTION, for each input; write the results in the order of the inputs.

    In COMMAND, {} stands for the input, {.} for it without extension, {/} for its last part, {//} for its directory,
    {/.} for its last part without extension, {#} for its number; without any of them the input is added to the end. It is run
    by /bin/sh on a worker; its standard output is the result. A function gets each line of --input as a JSON value,
    and an INPUT as text; what it returns is written as a line of JSON.

    The same command again goes on where it was stopped (Ctrl-C, a crash, a reboot), and runs what is missing.

    The exit code is 0 if all is done, 1 if an input failed, 130 after Ctrl-C; docs/cli.md has the others.
    """
    from ripieno.cli.mapping.inputs import Arguments, Lines
    from ripieno.cli.mapping.jobs import FUNCTION, CommandJob, FunctionJob, Job
    from ripieno.cli.mapping.runs import Wanted
    from ripieno.cli.mapping.starting import Start, run_map
    from ripieno.client import OptionChanges, TaskOptions

    if texts == ("-",):
        texts, input_ = (), input_ or "-"
    if bool(texts) == (input_ is not None):
        said = (
            "both as arguments and with --input; give one of them" if texts else "neither as arguments nor with --input"
        )
        raise click.UsageError(f"inputs are given {said} (`--input -` reads standard input)")
    source = Arguments(texts) if input_ is None else Lines(None if input_ == "-" else Path(input_))
    is_function = FUNCTION.fullmatch(command_line) is not None
    for flag, given, fits in (
        ("--kwargs", spread, is_function and input_ is not None),
        ("--cwd", cwd, not is_function),
        ("--env", variables, not is_function),
    ):
        if given and not fits:
            raise click.UsageError(f"{flag} is for {'commands' if is_function else 'functions with --input'} alone")
    job: Job
    if is_function:
        job = FunctionJob(command_line, spread, is_json=input_ is not None, tag=tag)
    else:
        job = CommandJob(command_line, None if cwd == "-" else str(Path(cwd or ".").absolute()), variables, tag=tag)
    options = TaskOptions(priority or MIN_PRIORITY, retries or 0, max_duration or _LONGEST_S, partition)
    changes = OptionChanges(priority=priority, max_retries=retries, max_duration=max_duration, partition=partition)
    start = Start(
        address,
        job,
        source,
        job.name(source.name) if name_ is None else _session_name(name_),
        fresh,
        Wanted(options, changes, retry_failed=retry_failed, keep_going=keep_going),
        output,
    )
    if local and context.get_parameter_source("address") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--local and --address both say which cluster: give one of the two")
    try:
        with _place(start, local=local) as place:
            context.exit(asyncio.run(run_map(place)))
    except OSError as error:
        if error.filename is None:
            raise
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


def _session_name(name_: str) -> str:
    """Return the id of the session of a job: none that anybody else has made, since --fresh deletes it."""
    return name_ if name_.startswith(_PREFIX) else f"{_PREFIX}{name_}"


@contextmanager
def _place(start: "Start", *, local: bool) -> "Iterator[Start]":
    """Return where a map runs: as it is, or in a cluster that is started for the time of the context."""
    if not local:
        yield start
        return
    from ripieno.functions.calling.private import PrivateCluster

    cluster = PrivateCluster()
    try:
        yield replace(start, address=cluster.address)
    finally:
        cluster.close()
