"""Output to terminals and pipes of any kind: encodings that lack characters, and readers that go away."""

import errno
import os
import sys
from typing import Any

import click

from ripieno.cli.terms.exit_codes import CommandError, ExitCode, code_of_error
from ripieno.domain.errors import InvalidRequestError, RipienoError
from ripieno.domain.identifiers import check_identifier


def shown_error(error: RipienoError) -> CommandError:
    """Return an error of the client SDK as that of a command, with its exit code."""
    return CommandError(one_line(error.detail), code_of_error(error))


def run(cli: click.Command, program: str) -> int:
    """Run a command line with the arguments of this process; return its exit code.

    Errors of the project and of click become one or two lines on standard error. A bug of ours
    is a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RipienoError as error:
        shown = shown_error(error)
        shown.show()
        return shown.exit_code
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        return leave_pipe()
    return code if isinstance(code, int) else 0


def leave_pipe() -> ExitCode:
    """Write nothing more, since the reader of our output has closed it; return the exit code that says so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # not even the interpreter at exit
    return ExitCode.BROKEN_PIPE


def name(text: str) -> str:
    """Check a flag's or argument's value that must be a session's or task's id, or a result's key; return it.

    Raises:
        click.BadParameter: if the text breaks the rules for names, so that no server could know it.
    """
    try:
        # Where the locale is not UTF-8, Python has kept undecodable bytes as surrogates; this recovers them.
        decoded = os.fsencode(text).decode()
    except UnicodeError:
        decoded = text
    try:
        check_identifier("", decoded)
    except InvalidRequestError as error:
        raise click.BadParameter(error.detail) from error
    return decoded


def printable(value: Any) -> str:
    r"""Return a value as text whose unprintable characters are written out: an escape as ``\x1b``."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in text)


def one_line(text: str) -> str:
    """Return a text for an error message, joined into one printable line."""
    return " ".join(printable(line) for line in text.split("\n") if line)
