"""The services of a cluster on one machine: the embedded database, and the command lines of our processes."""

import asyncio
from dataclasses import asdict, replace

import structlog

from ripieno.config import LIMITS_VARIABLE, ControlSettings
from ripieno.domain.addresses import TcpAddress
from ripieno.store.embedded import EmbeddedPostgres, EmbeddedPostgresError
from ripieno.telemetry import LogSettings, configure_logs
from ripieno.up.child import Child
from ripieno.up.directory import DataDirectory
from ripieno.up.errors import ServiceFailedError, UpError
from ripieno.up.settings import UpSettings
from ripieno.up.soundness import network_file_system
from ripieno.up.tie import DATABASE_VARIABLE

log = structlog.get_logger(__name__)

#: Seconds that a process gets beyond the time of its own drain, before it is told to hurry.
DRAIN_MARGIN_S = 5.0


class Database:
    """The embedded PostgreSQL as a ``Service`` of the keeper."""

    name = "postgres"

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    async def start(self) -> None:
        """Start the server and return when it accepts connections.

        Raises:
            ServiceFailedError: if it does not start.
        """
        try:
            await self._server.start()
        except EmbeddedPostgresError as error:
            raise ServiceFailedError(str(error)) from error

    async def wait(self) -> str:
        """Wait until the server ends; return in words how it ended."""
        return f"ended with exit code {await self._server.wait()}"

    async def discard(self) -> None:
        """No-op. The next start clears up after a server that died."""

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop the server by PostgreSQL's fast shutdown, hurried or not: there is nothing to drain."""
        del hurry
        await self._server.stop()


def start_log(directory: DataDirectory, settings: LogSettings) -> None:
    """Log into the directory from now on; warn first if it lies on another machine's file system.

    Raises:
        UpError: if the log file of ``up`` cannot be written.
    """
    file = directory.log("up")
    try:
        configure_logs(replace(settings, file=file))
    except OSError as error:
        raise UpError(f"cannot write {file}: {error.strerror}; choose another directory with --data") from error
    if kind := network_file_system(directory.path):
        log.warning(
            "the data directory is on another machine's file system: a database there is slow, and safe only if that"
            " machine keeps locks and syncs",
            directory=str(directory.path),
            kind=kind,
        )


def embedded(directory: DataDirectory) -> EmbeddedPostgres:
    """Return the data directory's own PostgreSQL server, not yet prepared.

    Raises:
        ServiceFailedError: if PostgreSQL is not installed here.
    """
    try:
        return EmbeddedPostgres(directory.postgres, log=directory.log("postgres"))
    except EmbeddedPostgresError as error:
        raise ServiceFailedError(str(error)) from error


async def prepared(server: EmbeddedPostgres | None) -> str:
    """Make the server's database files where they are missing; return the database's URL.

    Raises:
        ServiceFailedError: if the files cannot be made or used.
    """
    assert server is not None
    try:
        return await server.prepare()
    except EmbeddedPostgresError as error:
        raise ServiceFailedError(str(error)) from error


def control_child(directory: DataDirectory, settings: UpSettings, address: TcpAddress, database: str) -> Child:
    """Return the process of the control plane. It gets the URL by its environment, as that may hold a password."""
    limits = " ".join(f"{name}={value}" for name, value in asdict(settings.limits).items())
    arguments = ["control", "--listen", str(address), "--objects", str(directory.objects)]
    return Child(
        directory,
        [*arguments, *_log_arguments(settings)],
        environment={DATABASE_VARIABLE: database, LIMITS_VARIABLE: limits},
        scratch=None,
        drain_limit_s=ControlSettings(database=database).drain_s + DRAIN_MARGIN_S,
    )


def agent_child(directory: DataDirectory, settings: UpSettings, address: TcpAddress) -> Child:
    """Return the process of the agent, which starts its workers."""
    arguments = [
        "agent",
        "--control",
        str(address.reachable),
        "--slots",
        str(settings.slots),
        "--drain",
        str(settings.drain_s),
    ]
    arguments += ["--scratch", str(directory.scratch)]
    if settings.worker is not None:
        arguments += ["--worker", settings.worker]
    arguments += ["--worker-logs", str(directory.logs)]
    for name in settings.pass_environment:
        arguments += ["--pass-env", name]
    arguments += ["--output-bytes", str(settings.output_bytes)]
    for worker in settings.attach:
        arguments += ["--attach", worker]
    return Child(
        directory,
        [*arguments, *_log_arguments(settings)],
        environment={},
        identified=True,
        scratch=directory.scratch,
        drain_limit_s=settings.drain_s + DRAIN_MARGIN_S,
    )


def _log_arguments(settings: UpSettings) -> list[str]:
    return ["--log-level", settings.logs.level, "--log-format", "json" if settings.logs.json else "text"]
