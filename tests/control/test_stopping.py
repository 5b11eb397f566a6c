"""A replica that ends leaves nobody waiting: not its calls when it drains, not its server whatever ends it."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from control.replica import serving, until
from ripieno.config import ControlSettings
from ripieno.control.server import Replica
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.wire.protos.armonik_v2 import (
    objects_pb2,
    submitter_service_pb2,
    submitter_service_pb2_grpc,
    task_status_pb2,
)
from ripieno.wire.protos.v1 import agent_pb2, agent_pb2_grpc, results_pb2, results_pb2_grpc
from store.world import task

_Filter = submitter_service_pb2.TaskFilter


async def test_a_replica_that_drains_ends_all_waits_at_once(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url, tmp_path / "objects", drain_s=60) as served, served.connect() as channel:
        await served.world.session()
        await served.world.submit(task("t", "k"))
        submitter = submitter_service_pb2_grpc.SubmitterStub(channel)
        ids, submitted = _Filter.IdsRequest(ids=["t"]), task_status_pb2.TASK_STATUS_SUBMITTED
        follow = results_pb2_grpc.ResultsStub(channel).Follow()
        await follow.write(results_pb2.FollowRequest(session_id="s", keys=["k"]))
        waits: list[Any] = [
            submitter.WaitForAvailability(objects_pb2.ResultRequest(session="s", key="k")),
            *(
                submitter.WaitForCompletion(submitter_service_pb2.WaitRequest(filter=each))
                for each in (
                    _Filter(session=_Filter.IdsRequest(ids=["s"])),
                    _Filter(task=ids),
                    _Filter(task=ids, included=_Filter.StatusesRequest(statuses=[submitted])),
                )
            ),
            follow,
        ]
        await until(lambda: len(served.replica._watcher._promises) == len(waits))
        served.stop.set()
        async with asyncio.timeout(10):
            assert [await wait.code() for wait in waits] == [grpc.StatusCode.UNAVAILABLE] * len(waits)


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
