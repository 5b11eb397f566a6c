"""Calls that show whether a cluster serves, and what it kept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import grpc.aio

from cli.running import DEADLINE_S
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, submitter_service_pb2_grpc

if TYPE_CHECKING:
    from ripieno.wire.protos.armonik_v2.submitter_service_pb2_grpc import SubmitterAsyncStub

Reply = TypeVar("Reply")


async def create_session(address: str, name: str) -> None:
    options = objects_pb2.TaskOptions(max_retries=1, priority=1)
    options.max_duration.seconds = 60
    request = submitter_service_pb2.CreateSessionRequest(id=name, default_task_option=options)
    reply = await patiently(address, lambda submitter: submitter.CreateSession(request))
    assert reply.WhichOneof("result") == "ok", reply


async def sessions(address: str) -> list[str]:
    request = submitter_service_pb2.SessionFilter()
    reply = await patiently(address, lambda submitter: submitter.ListSessions(request))
    return list(reply.session_ids)


async def patiently(address: str, call: "Callable[[SubmitterAsyncStub], Awaitable[Reply]]") -> Reply:
    """Call until the answer is not UNAVAILABLE, as a client does while a process restarts."""
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(DEADLINE_S):
        submitter = submitter_service_pb2_grpc.SubmitterStub(channel)
        while True:
            try:
                return await call(submitter)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)
