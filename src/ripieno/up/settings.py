"""What a laptop cluster is made of."""

from dataclasses import dataclass
from pathlib import Path

from ripieno.config import Limits
from ripieno.domain.addresses import TcpAddress
from ripieno.telemetry import LogSettings


@dataclass(frozen=True, slots=True)
class UpSettings:
    """A cluster on this machine.

    Attributes:
        data: Directory of everything that is kept.
        listen: Where the control plane listens; port 0 takes a free one.
        slots: Workers to start; ignored with ``attach``.
        worker: Command of a worker, None for the Python worker for functions.
        attach: Addresses of workers that exist already; each is one slot.
        pass_environment: Variables that workers get although they are kept back.
        database: URL of a PostgreSQL to use instead of the embedded one.
        limits: What one caller may ask of the control plane.
        drain_s: How long running attempts may go on after the stop.
        logs: Level and shape of the logs; in which files they go is decided here.
    """

    data: Path
    listen: TcpAddress
    slots: int
    worker: str | None
    attach: tuple[str, ...]
    pass_environment: tuple[str, ...]
    database: str | None
    limits: Limits
    drain_s: float
    logs: LogSettings
