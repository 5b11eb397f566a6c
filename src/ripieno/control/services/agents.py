"""The Agents service: agents as clients see them."""

from typing import Any

import grpc.aio

from ripieno.control.services.pages import Pages
from ripieno.domain.catalogue import Listed
from ripieno.domain.identifiers import check_identifier
from ripieno.store.reading.lists import Lists
from ripieno.wire.protos.v1 import agents_pb2, agents_pb2_grpc, query_pb2

Context = grpc.aio.ServicerContext[Any, Any]

# The method names below are the protocol's.
# ruff: noqa: N802


class Agents(agents_pb2_grpc.AgentsServicer):
    """Implements the Agents service for clients."""

    def __init__(self, lists: Lists) -> None:
        self._pages = Pages(lists, Listed.AGENTS, agents_pb2.AgentState, agents_pb2.AgentPage, "agents")

    async def List(self, request: query_pb2.Query, context: Context) -> agents_pb2.AgentPage:
        """Return a page of the agents."""
        return await self._pages.list(request)

    async def Count(self, request: query_pb2.Filter, context: Context) -> query_pb2.Total:
        """Return how many agents match."""
        return await self._pages.count(request)

    async def Get(self, request: agents_pb2.AgentId, context: Context) -> agents_pb2.AgentState:
        """Return an agent by the id that lists tell."""
        check_identifier("id", request.id)
        return await self._pages.get(f"agent {request.id!r} does not exist", id=request.id)
