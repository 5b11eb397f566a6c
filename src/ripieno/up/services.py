"""The processes of a laptop cluster, each with its command line."""

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

#: Beyond what a process grants its own drain, before it is told to hurry.
DRAIN_MARGIN_S = 5.0


class Database:
    """The embedded PostgreSQL as one of the services."""

    name = "postgres"

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    async def start(self) -> None:
        """Start the server."""
        try:
            await self._server.start()
        except EmbeddedPostgresError as error:
            raise ServiceFailedError(str(error)) from error

    async def wait(self) -> str:
        """Wait until the server ends."""
        return f"ended with exit code {await self._server.wait()}"

    async def discard(self) -> None:
        """Nothing to do: the next start clears up after a dead server."""

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop it fast: that is all it can do, hurried or not."""
        del hurry
        await self._server.stop()


def start_log(directory: DataDirectory, settings: LogSettings) -> None:
    """Log into the directory from now on, and first what is to be known about it.

    Raises:
        UpError: its log cannot be written.
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
    """The directory's own server, not yet prepared.

    Raises:
        ServiceFailedError: PostgreSQL is not installed here.
    """
    try:
        return EmbeddedPostgres(directory.postgres, log=directory.log("postgres"))
    except EmbeddedPostgresError as error:
        raise ServiceFailedError(str(error)) from error


async def prepared(server: EmbeddedPostgres | None) -> str:
    """Make the database files where they are missing; return the URL."""
    assert server is not None
    try:
        return await server.prepare()
    except EmbeddedPostgresError as error:
        raise ServiceFailedError(str(error)) from error


def control_child(directory: DataDirectory, settings: UpSettings, address: TcpAddress, database: str) -> Child:
    """The control plane. The URL goes by the environment: it may hold a password."""
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
    """The agent with its workers."""
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
