"""A replica ends its server whatever ends the replica."""

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from ripieno.config import ControlSettings
from ripieno.control.server import Replica
from ripieno.store.database import Database
from ripieno.store.objects import ObjectStore
from ripieno.wire.protos.v1 import agent_pb2, agent_pb2_grpc


async def test_a_replica_that_is_cancelled_serves_no_more(database_url: str, tmp_path: Path) -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    settings = ControlSettings(database_url, listen="127.0.0.1:0", drain_s=60)
    async with Database.open(database_url) as database, asyncio.timeout(20):
        replica = Replica(settings, database, ObjectStore(database, str(tmp_path)))
        running = asyncio.create_task(replica.run(asyncio.Event(), ready.set_result))
        async with grpc.aio.insecure_channel(await ready) as channel:
            call = agent_pb2_grpc.AgentStub(channel).Connect()  # a call that is under way holds up nothing
            await call.write(agent_pb2.AgentMessage(hello=agent_pb2.Hello(agent_id=bytes(16), name="a", slots=1)))
            await call.read()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
