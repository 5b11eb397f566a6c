"""The command line ``ripieno``: one module for each command.

A command checks its flags, builds settings, and calls the part that does the work, which
it imports only then: ``ripieno --help`` needs neither gRPC nor a database, and a worker
starts without loading a control plane.
"""

import sys

#: Packages that the SDKs do not need -> the extra of this distribution that installs them.
EXTRAS = {
    "asyncpg": "server",
    "cloudpickle": "functions",
    "grpc_health": "server",
    "grpc_reflection": "server",
    "obstore": "server",
    "structlog": "agent",
}

#: Commands that need more than the package that is missed first -> the extras of all that they need.
WHOLE = {"agent": "agent", "control": "server", "up": "embedded,functions"}


def main() -> None:
    """Run the command line with the arguments of this process, and exit with its code."""
    try:
        from ripieno.cli.calling.terminal import run
        from ripieno.cli.root import cli

        code = run(cli, "ripieno")
    except KeyboardInterrupt:
        # Ctrl-C while modules were loaded, maybe that of ``ExitCode``; ``run`` handles all later ones.
        raise SystemExit(130) from None
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        command = sys.argv[1] if len(sys.argv) > 1 else ""
        extras = WHOLE.get(command, EXTRAS[error.name])
        raise SystemExit(
            f"Error: `ripieno {command}` needs {error.name}, which is not installed: pip install 'ripieno[{extras}]'"
        ) from error
    raise SystemExit(code)
