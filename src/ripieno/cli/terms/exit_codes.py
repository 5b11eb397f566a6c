"""The exit codes of ``ripieno``: one table, the same for all commands, and stable from release to release.

``docs/cli.md`` has it too, and a test compares the two.
"""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import click

from ripieno.domain.errors import (
    ConflictError,
    DeniedError,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    RipienoError,
    UnavailableError,
)


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_ANSWER = 4
    REFUSED = 5
    DENIED = 6
    TIMED_OUT = 124
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.OK: "done",
        ExitCode.FAILED: "the work failed: a task or a result did not end well, or the command could not do its part",
        ExitCode.USAGE: "wrong usage: a flag, an argument, or a file of settings",
        ExitCode.NOT_FOUND: "a session, task, result or context that was named does not exist",
        ExitCode.NO_ANSWER: "no cluster answered there in time; the same command may be repeated",
        ExitCode.REFUSED: "the cluster refused: a status, a limit or a rule does not allow it",
        ExitCode.DENIED: "the cluster does not know who asks, or does not let them",
        ExitCode.TIMED_OUT: "the time of `--timeout` passed first, as with timeout(1)",
        ExitCode.INTERRUPTED: "Ctrl-C, or the second signal to a server",
        ExitCode.BROKEN_PIPE: "whoever read the output went away, as in `| head`",
    }
)

#: Names of gRPC's codes -> how the command ends; those that are not listed are REFUSED.
_OF_CALLS: Mapping[str, ExitCode] = MappingProxyType(
    {
        "NOT_FOUND": ExitCode.NOT_FOUND,
        "UNAVAILABLE": ExitCode.NO_ANSWER,
        "DEADLINE_EXCEEDED": ExitCode.NO_ANSWER,
        "CANCELLED": ExitCode.NO_ANSWER,
        "UNIMPLEMENTED": ExitCode.NO_ANSWER,
        "UNAUTHENTICATED": ExitCode.DENIED,
        "PERMISSION_DENIED": ExitCode.DENIED,
        "INTERNAL": ExitCode.FAILED,
        "UNKNOWN": ExitCode.FAILED,
        "DATA_LOSS": ExitCode.FAILED,
    }
)

#: Errors of the client SDK -> how the command ends; the others (a task that failed, a bug) are FAILED.
_OF_ERRORS: tuple[tuple[type[RipienoError], ExitCode], ...] = (
    (NotFoundError, ExitCode.NOT_FOUND),
    (UnavailableError, ExitCode.NO_ANSWER),
    (OutcomeUnknownError, ExitCode.NO_ANSWER),
    (DeniedError, ExitCode.DENIED),
    (InvalidRequestError, ExitCode.REFUSED),
    (ConflictError, ExitCode.REFUSED),
    (OverloadedError, ExitCode.REFUSED),
)


class CommandError(click.ClickException):
    """An error for the user of a command, with one of the codes of the table.

    Args:
        message: One or two sentences that name the thing and the way out.
        code: How the command ends.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc] # click reads it from the instance


def code_of_call(code: Any) -> ExitCode:
    """Return how a command ends whose call failed with this ``grpc.StatusCode``."""
    return _OF_CALLS.get(code.name, ExitCode.REFUSED)


def code_of_error(error: RipienoError) -> ExitCode:
    """Return how a command ends that met an error of the client SDK."""
    return next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), ExitCode.FAILED)
