"""The calls of the Agent service about data: results and objects that agents read and write."""

from typing import Any

import grpc.aio

from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import NeverThere, fetch_results
from ripieno.wire.outcomes import data_to_wire, stored_to_wire
from ripieno.wire.protos.v1 import agent_pb2, agent_pb2_grpc

#: The most names of objects that one call of ``StageObjects`` gets.
_MOST_NAMES = 1_000

Context = grpc.aio.ServicerContext[Any, Any]


class AgentData(agent_pb2_grpc.AgentServicer):
    """Implements the calls about data of the Agent service."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    async def FetchResults(  # noqa: N802 - the protocol's name
        self, request: agent_pb2.FetchResultsRequest, context: Context
    ) -> agent_pb2.FetchResultsReply:
        """Return results by key, small ones inline and large ones by name; if too large together, only the first ones."""
        keys = [(key.session_no, key.key) for key in request.keys]
        reply = agent_pb2.FetchResultsReply()
        for data in await fetch_results(self._database, keys):
            if isinstance(data, str):
                reply.fetched.add(error=data, for_good=isinstance(data, NeverThere))
            else:
                reply.fetched.add(data=data_to_wire(data))
        return reply

    # The stubs know generators only; writing to the context is the other documented way.
    async def ReadObject(self, request: agent_pb2.ReadObjectRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Send the bytes of a stored object."""
        stored = await self._objects.find(request.name)
        async for piece in self._objects.read(stored):
            await context.write(agent_pb2.ObjectChunk(data=piece))

    async def WriteObject(self, request_iterator: Any, context: Context) -> agent_pb2.StoredObject:  # noqa: N802
        """Store the stream's bytes as an object with a new name; reads as fast as the object store takes them."""
        async with await self._objects.writer() as writer:
            while isinstance(chunk := await context.read(), agent_pb2.ObjectChunk):
                await writer.write(chunk.data)
        return stored_to_wire(writer.stored)

    async def StageObjects(  # noqa: N802 - the protocol's name
        self, request: agent_pb2.StageObjectsRequest, context: Context
    ) -> agent_pb2.StageObjectsReply:
        """Stage names of objects that the agent writes itself, 1,000 at the most."""
        return agent_pb2.StageObjectsReply(names=await self._objects.stage(min(request.count, _MOST_NAMES)))
