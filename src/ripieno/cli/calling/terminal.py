"""Output to terminals and pipes of any kind: encodings that lack characters, and readers that go away."""

import errno
import os
import sys
from typing import Any

import click

from ripieno.domain.errors import InvalidRequestError, RipienoError
from ripieno.domain.identifiers import check_identifier

#: A shell's code for a program that SIGINT ended, and click's code for a broken pipe.
INTERRUPTED_EXIT_CODE, BROKEN_PIPE_EXIT_CODE = 130, 1


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
        return INTERRUPTED_EXIT_CODE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RipienoError as error:
        click.ClickException(one_line(error.detail)).show()
        return 1
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # The reader of our output has closed it. Nothing more may be written, not even by the interpreter at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_EXIT_CODE
    return code if isinstance(code, int) else 0


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
