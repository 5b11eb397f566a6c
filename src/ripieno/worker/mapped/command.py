"""``run_command``: runs one shell command as a task; its standard output is the result.

The command sees the worker's environment with ``RIPIENO_TASK_ID``, ``RIPIENO_SESSION_ID`` and the variables that the
caller named; an empty standard input; and the directory that the caller named, or the worker's own. It runs in a
session and process group of its own, which ends with it.
"""

import errno
import os
import subprocess
from collections.abc import Iterator, Mapping
from itertools import chain

from ripieno.domain.errors import RipienoError
from ripieno.worker.author.task import Task
from ripieno.worker.author.with_task import with_task
from ripieno.worker.mapped.processes import CommandProcess
from ripieno.worker.terms.errors import TaskError

#: Output up to this size is one message; what is longer is sent while the command runs, in bounded memory.
HELD_BYTES = 64 * 1024


class CommandFailed(RipienoError):  # noqa: N818 - reads as an event
    """A command ended with another exit code than 0, or was ended by a signal. The text has the end of its standard error."""


@with_task
def run_command(task: Task, line: bytes, cwd: str | None, variables: Mapping[str, str]) -> bytes | None:
    """Run a command line with ``/bin/sh``; its standard output becomes the task's result as it comes.

    Standard error goes to that of the worker, so that `ripieno task logs` has it; so does the end of the standard
    output of a command that fails.

    Args:
        task: The task, with one expected output.
        line: The command line.
        cwd: The directory to run in; None is the worker's own.
        variables: Environment variables in addition to those of the worker.

    Raises:
        CommandFailed: another exit code than 0, or a signal: the attempt has failed.
        TaskError: the directory does not exist here, there is no shell, or the line is too long: another attempt would
            not help.
        TaskCancelled: the attempt was cancelled or ran out of time; the command and its children were ended.
    """
    environment = {
        **os.environ,
        "RIPIENO_TASK_ID": task.task_id.partition("###")[0],
        "RIPIENO_SESSION_ID": task.session_id,
        **variables,
    }
    try:
        process = CommandProcess(line, cwd, environment)
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise TaskError(
                f"the command line of {len(line):,} bytes is longer than this system takes: put what is so long into a"
                " file, and give its name"
            ) from error
        if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
            raise  # too many processes or files at present, say
        if cwd is not None and not os.path.isdir(cwd):  # noqa: PTH112 - a Path would not take every name
            raise TaskError(
                f"the directory {cwd!r} is not there on this worker ({error.strerror}): run the workers where it is,"
                " or choose another one with --cwd (`--cwd -` is the directory in which the worker runs)"
            ) from error
        raise TaskError(f"the command cannot be started: {error}") from error
    with process:
        pieces = process.pieces(lambda: task.cancelled)
        held = bytearray()
        for piece in pieces:
            held += piece
            if len(held) > HELD_BYTES:
                # What has been sent of an attempt that fails is dropped by the agent.
                task.send_result(task.expected_output_keys[0], _checked(chain([bytes(held)], pieces), process, task))
                return None
        _check(process, task)
        return bytes(held)


def _checked(pieces: Iterator[bytes], process: CommandProcess, task: Task) -> Iterator[bytes]:
    """Yield the pieces, and raise at their end if the command has failed, before the result is complete."""
    yield from pieces
    _check(process, task)


def _check(process: CommandProcess, task: Task) -> None:
    task.raise_if_cancelled()
    if process.exit_code != 0:
        process.relay_stdout()
        raise CommandFailed(f"{in_words(process.exit_code)}{_told(process.stderr_end)}")


def in_words(exit_code: int) -> str:
    """Return what an exit code of ``subprocess`` means."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    return (
        str(subprocess.CalledProcessError(exit_code, "")).partition("died with ")[2].rstrip(".")
        or f"signal {-exit_code}"
    )


def _told(stderr: bytes) -> str:
    text = stderr.decode(errors="backslashreplace").rstrip("\n")
    return f"\n{text}" if text else ""
