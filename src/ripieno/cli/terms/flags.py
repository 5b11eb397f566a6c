"""Flags that several commands share."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click

from ripieno.cli.terms.values import server_address
from ripieno.domain.output import LARGEST_OUTPUT_LIMIT_BYTES, OUTPUT_LIMIT_BYTES

#: What names a handler, and would be a strange name of a program.
_HANDLER = re.compile(r"[\w.]+:[\w.]+")


def defaults_of(settings: type[Any]) -> dict[str, Any]:
    """Return the default values of a settings class by field, so that flags need not repeat them."""
    return {field.name: field.default for field in fields(settings) if field.default is not MISSING}


def slots_in_words(slots: int) -> str:
    """Return a number of slots in words: ``1 slot``, ``2 slots``."""
    return f"{slots} slot" if slots == 1 else f"{slots} slots"


def log_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with ``--log-level``, ``--log-format`` and ``--log-file``."""
    for flag in (
        click.option(
            "--log-file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Log into this file; warnings still go to standard error.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="Shape of log lines.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            show_default=True,
            help="Least severe level that is logged.",
        ),
    ):
        command = flag(command)
    return command


def worker_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with ``--slots``, ``--worker``, ``--attach``, ``--pass-env`` and ``--output-bytes``."""
    for flag in (
        click.option(
            "--output-bytes",
            type=click.IntRange(min=0, max=LARGEST_OUTPUT_LIMIT_BYTES),
            metavar="BYTES",
            default=OUTPUT_LIMIT_BYTES,
            show_default=True,
            help="How much of the end of what an attempt writes to standard output, and to standard error, is kept "
            "with it; 0 keeps nothing.",
        ),
        click.option(
            "--pass-env",
            "pass_environment",
            metavar="NAME",
            multiple=True,
            help="A variable that workers get although it is kept back from them; once for each. Kept back are "
            "PG* and RIPIENO_*, which may hold the database's password.",
        ),
        click.option(
            "--attach",
            type=server_address,
            metavar="ADDRESS",
            multiple=True,
            help="A worker that exists already, unix:/path or HOST:PORT; once for each, one slot each.",
        ),
        click.option(
            "--worker",
            metavar="COMMAND",
            help="Command that starts a worker; the address to serve is in RIPIENO_WORKER_ADDRESS and in {address}. "
            "Without it: the Python worker for functions.",
        ),
        click.option("--slots", type=click.IntRange(min=1), help="Workers to start.  [default: one a core]"),
    ):
        command = flag(command)
    return command


def check_worker_flags(worker: str | None, attach: tuple[str, ...]) -> None:
    """Refuse values of ``worker_flags`` that are unusable or contradict each other.

    Raises:
        click.UsageError: if there are such values; the text names the flags and says what to do.
    """
    if worker is not None and attach:
        raise click.UsageError("--worker starts workers, --attach serves existing ones: give one of the two")
    if worker is not None:
        _check_command(worker)
    twice = sorted({address for address in attach if attach.count(address) > 1})
    if twice:
        raise click.UsageError(f"--attach {twice[0]} is given twice: a worker is one slot")


def _check_command(worker: str) -> None:
    try:
        words = shlex.split(worker)
    except ValueError as error:
        raise click.UsageError(
            f"--worker {worker!r} is not a command: {str(error).lower()}; close the quotes, or escape with a backslash"
        ) from error
    if not words or not words[0]:
        raise click.UsageError("--worker is empty: give the command that starts a worker, or leave the flag out")
    if "\0" in worker:
        raise click.UsageError("--worker contains a NUL character, which no command may")
    if len(words) == 1 and _HANDLER.fullmatch(worker) and shutil.which(worker) is None:
        raise click.UsageError(
            f"--worker takes a command, and {worker!r} is the name of a function: write --worker 'ripieno worker {worker}'"
        )
    if words[0] == "ripieno" and shutil.which("ripieno") is None:
        here = Path(sys.argv[0]).absolute()
        path = str(here) if here.name == "ripieno" else f"{sys.executable} -m ripieno"
        raise click.UsageError(
            "there is no program 'ripieno' in the directories of PATH: write --worker"
            f" {shlex.quote(shlex.join([*shlex.split(path), *words[1:]]))}"
        )


def start_logging(level: str, shape: str, file: Path | None) -> None:
    """Set up logging as the values of ``log_flags`` ask for.

    Raises:
        click.BadParameter: if the log file cannot be written.
    """
    from ripieno.telemetry import LogSettings, configure_logs

    try:
        configure_logs(LogSettings(level=level, json=shape == "json", file=file))
    except OSError as error:
        raise click.BadParameter(
            f"cannot write {str(file)!r}: {error.strerror}; name another file", param_hint="--log-file"
        ) from error
