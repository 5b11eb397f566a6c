"""The standard gRPC health service: SERVING while all parts of the replica work, NOT_SERVING while one does not."""

import asyncio
from collections.abc import Sequence

import structlog
from grpc_health.v1 import health, health_pb2

from ripieno.background import Health

_log = structlog.get_logger(__name__)


class Readiness:
    """Publishes the state of ``Health`` through the gRPC health service.

    Args:
        parts: Which parts of the replica are at fault.
        services: Full names of the services whose status is published. "", the server as a whole, is added to them.

    Attributes:
        servicer: The implementation of ``grpc.health.v1.Health`` to register with the server.
    """

    def __init__(self, parts: Health, services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._parts = parts
        self._services = ["", *services]
        self._changed = asyncio.Event()
        parts.changed = lambda _well: self._changed.set()
        for name in self._services:
            self.servicer._server_status[name] = self._status()

    async def run(self) -> None:
        """Publish each change of the replica's health until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            status = self._status()
            if not self._parts.well:
                _log.warning("not ready", because=dict(self._parts.faults))
            for name in self._services:
                await self.servicer.set(name, status)

    def _status(self) -> health_pb2.HealthCheckResponse.ServingStatus:
        response = health_pb2.HealthCheckResponse
        return response.SERVING if self._parts.well else response.NOT_SERVING
