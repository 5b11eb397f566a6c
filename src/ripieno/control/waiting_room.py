"""A replica before its database is there: it answers, says that it is not ready, and why.

Orchestrators start things in any order, and a database may be a standby, starting up or out of
connections just then. That ends no process: calls get UNAVAILABLE, the health service says
NOT_SERVING, the log says once what is waited for.
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
    """Answers whatever is not the health service."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Refuse the call, whatever its kind: a stream is ended before its first message."""
        if handler_call_details.method.startswith("/grpc.health."):
            return await continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "this replica waits for its database; nothing happened, try again")


@asynccontextmanager
async def waiting_room(listen: str) -> AsyncIterator[int | None]:
    """Answer at an address until the block ends.

    Yields:
        The port, to be served afterwards; None if the address cannot be served, which whoever serves
        it afterwards finds out and says.
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
