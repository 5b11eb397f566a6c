"""The command ``python -m ripieno.worker [--address ADDRESS] [--single] [--concurrency N] [MODULE:HANDLER]``."""

import argparse
import faulthandler
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ripieno.config import SPAWNED_VARIABLE, WORKER_ADDRESS_VARIABLE, WORKER_PATH_VARIABLE
from ripieno.domain.errors import RipienoError
from ripieno.worker.running.handlers import load_handler
from ripieno.worker.serving.serving import serve
from ripieno.worker.terms.errors import StartupError

FUNCTIONS_HANDLER = "ripieno.functions.running.handler:handle"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to stop, and print one line when it is ready.

    Returns:
        The exit code: 0 after a clean stop, 2 if the worker could not start.
    """
    parser = argparse.ArgumentParser(prog="ripieno worker", description="Run tasks with a Python function.")
    parser.add_argument(
        "handler",
        nargs="?",
        default=FUNCTIONS_HANDLER,
        metavar="MODULE:HANDLER",
        help="the function that runs a task; without one, payloads are pickled functions (only for people you trust)",
    )
    parser.add_argument("--address", help=f"unix:/path or HOST:PORT to listen on; default: ${WORKER_ADDRESS_VARIABLE}")
    parser.add_argument(
        "--single",
        action="store_true",
        help="serve Worker alone, as a worker of another make does: one call a task instead of batches",
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=1,
        metavar="N",
        help="attempts that it runs at a time on its event loop, for a handler that is a coroutine function; default: 1",
    )
    arguments = parser.parse_args(argv)
    _prepare_output()
    # An installed script has its own folder first in sys.path; people expect their current one.
    current = str(Path.cwd())
    if sys.path[0] not in ("", current):
        sys.path.insert(0, current)
    sys.path += [entry for entry in os.environ.get(WORKER_PATH_VARIABLE, "").split(os.pathsep) if entry not in sys.path]
    try:
        serve(
            load_handler(arguments.handler),
            arguments.address,
            on_ready=_tell_ready,
            batch=not arguments.single,
            concurrency=arguments.concurrency,
        )
    except StartupError as error:
        traceback.print_exception(error.__cause__)
        print(f"ripieno worker: {error}", file=sys.stderr)
        return 2
    except RipienoError as error:
        print(f"ripieno worker: {error}", file=sys.stderr)
        return 2
    return 0


def _prepare_output() -> None:
    """Set up the output so that no line is lost in a crash, no text causes an error, and a crash shows its stack."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    with suppress(AttributeError, ValueError, OSError, RuntimeError):  # there is no standard error to write to
        faulthandler.enable()


def _tell_ready(address: str) -> None:
    if SPAWNED_VARIABLE not in os.environ:
        print(f"ripieno worker ready on {address}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
