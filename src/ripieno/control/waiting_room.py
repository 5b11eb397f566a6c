"""The server of a replica whose database is not available yet: it says that the replica is not ready, and why.

Orchestrators start processes in any order, and a database may be a standby, starting up or out of
connections just then. None of this ends the replica's process: calls get UNAVAILABLE, the health
service says NOT_SERVING, and the log says once what the replica waits for.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ripieno.domain.addresses import parse_listen_address
from ripieno.wire.channels import target_of


class _NotYet(grpc.aio.ServerInterceptor):
    """Refuses all calls but those of the health service with UNAVAILABLE."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return a handler that refuses the call, whatever its kind; a stream is ended before its first message."""
        if handler_call_details.method.startswith("/grpc.health."):
            return await continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "this replica waits for its database; nothing happened, try again")


@asynccontextmanager
async def waiting_room(listen: str) -> AsyncIterator[int | None]:
    """Serve the not-ready state at the address ``listen`` until the block ends.

    Yields:
        The port, for the replica to serve afterwards; None if the address cannot be served. This is no
        error here: the replica meets the same fault when it serves the address, and reports it.
    """
    server = grpc.aio.server(interceptors=[_NotYet()], options=[("grpc.so_reuseport", 0)])
    standing = health.aio.HealthServicer()
    await standing.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(standing, server)
    try:
        port = server.add_insecure_port(target_of(parse_listen_address("listen", listen)))
    except RuntimeError:
        yield None
        return
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)
