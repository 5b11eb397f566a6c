"""The Partitions service."""

from typing import Any

import grpc.aio

from ripieno.control.services.pages import Pages
from ripieno.domain.catalogue import Listed
from ripieno.store.reading.lists import Lists
from ripieno.wire.protos.v1 import partitions_pb2, partitions_pb2_grpc, query_pb2

Context = grpc.aio.ServicerContext[Any, Any]

# The method names below are the protocol's.
# ruff: noqa: N802


class Partitions(partitions_pb2_grpc.PartitionsServicer):
    """Implements the Partitions service for clients."""

    def __init__(self, lists: Lists) -> None:
        message, page = partitions_pb2.Partition, partitions_pb2.PartitionPage
        self._pages = Pages(lists, Listed.PARTITIONS, message, page, "partitions")

    async def List(self, request: query_pb2.Query, context: Context) -> partitions_pb2.PartitionPage:
        """Return a page of the partitions."""
        return await self._pages.list(request)

    async def Count(self, request: query_pb2.Filter, context: Context) -> query_pb2.Total:
        """Return how many partitions match."""
        return await self._pages.count(request)

    async def Get(self, request: partitions_pb2.PartitionName, context: Context) -> partitions_pb2.Partition:
        """Return a partition that an agent serves or that options name."""
        missing = f"no agent serves partition {request.name!r}, and no options name it"
        return await self._pages.get(missing, name=request.name)
