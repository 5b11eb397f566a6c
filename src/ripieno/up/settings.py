"""Settings of a cluster on one machine."""

from dataclasses import dataclass
from pathlib import Path

from ripieno.config import Limits
from ripieno.domain.addresses import TcpAddress
from ripieno.telemetry import LogSettings


@dataclass(frozen=True, slots=True)
class UpSettings:
    """Settings of ``ripieno up``.

    Attributes:
        data: Directory of everything that is kept between runs.
        listen: Where the control plane listens; port 0 takes a free one.
        slots: Workers to start; ignored with ``attach``.
        worker: Command that starts a worker; None for the Python worker for functions.
        attach: Addresses of workers that exist already; each is one slot.
        pass_environment: Names of variables that workers get although variables of their kind are kept back.
        output_bytes: How much of the end of what an attempt prints is kept of each stream; 0 for nothing.
        database: URL of a PostgreSQL database to use; None for the embedded server.
        limits: What one caller may ask of the control plane.
        drain_s: How long running attempts may go on after the stop.
        logs: Level and shape of the logs; ``up`` itself chooses the files.
    """

    data: Path
    listen: TcpAddress
    slots: int
    worker: str | None
    attach: tuple[str, ...]
    pass_environment: tuple[str, ...]
    output_bytes: int
    database: str | None
    limits: Limits
    drain_s: float
    logs: LogSettings
