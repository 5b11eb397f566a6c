"""A client that knows only the original protocol."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import grpc.aio

from benchmarks.tasks import PAYLOAD
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2
from ripieno.wire.protos.armonik_v2.submitter_service_pb2_grpc import SubmitterStub

if TYPE_CHECKING:
    from ripieno.wire.protos.armonik_v2.submitter_service_pb2_grpc import SubmitterAsyncStub

    Stub: TypeAlias = SubmitterAsyncStub
else:
    Stub = SubmitterStub

#: From keys to their results, all in this process's hands; how many bytes they have.
Way: TypeAlias = "Callable[[Stub, str, Sequence[str]], Awaitable[int]]"

TASKS_A_CALL = 1_000
CALLS_IN_FLIGHT = 64

_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@asynccontextmanager
async def submitter(address: str) -> AsyncIterator[Stub]:
    """The Submitter service over a connection of its own."""
    options = [*_UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield SubmitterStub(channel)


async def create_session(stub: Stub) -> str:
    """A session with a name of its own."""
    options = objects_pb2.TaskOptions(max_retries=1, priority=1)
    options.max_duration.seconds = 60
    session = str(uuid.uuid4())
    await stub.CreateSession(submitter_service_pb2.CreateSessionRequest(id=session, default_task_option=options))
    return session


async def submit(stub: Stub, session: str, tasks: int) -> list[str]:
    """Submit tasks of one result each, 1,000 a call; returns the keys of their results."""
    ids = [str(uuid.uuid4()) for _ in range(tasks)]
    for start in range(0, tasks, TASKS_A_CALL):
        request = submitter_service_pb2.CreateSmallTaskRequest(session_id=session)
        for task_id in ids[start : start + TASKS_A_CALL]:
            request.task_requests.add(id=task_id, expected_output_keys=[task_id], payload=PAYLOAD)
        reply = await stub.CreateSmallTasks(request)
        assert reply.WhichOneof("Data") == "successfull", reply
    return ids


async def wait_and_fetch(stub: Stub, session: str, keys: Sequence[str]) -> int:
    """Wait for each result and read it, 64 at a time; returns how many bytes they have."""
    remaining = iter(keys)
    async with asyncio.TaskGroup() as group:
        fetchers = [group.create_task(_fetch(stub, session, remaining)) for _ in range(CALLS_IN_FLIGHT)]
    return sum(fetcher.result() for fetcher in fetchers)


async def wait_for_all_and_fetch(stub: Stub, session: str, keys: Sequence[str]) -> int:
    """Wait for the whole session, then read each result, 64 at a time; returns how many bytes they have."""
    sessions = submitter_service_pb2.TaskFilter(session=submitter_service_pb2.TaskFilter.IdsRequest(ids=[session]))
    await stub.WaitForCompletion(submitter_service_pb2.WaitRequest(filter=sessions))
    remaining = iter(keys)
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(_read(stub, session, remaining)) for _ in range(CALLS_IN_FLIGHT)]
    return sum(reader.result() for reader in readers)


async def _read(stub: Stub, session: str, remaining: Iterator[str]) -> int:
    size = 0
    for key in remaining:
        async for reply in stub.TryGetResultStream(objects_pb2.ResultRequest(session=session, key=key)):
            size += len(reply.result.data)
    return size


async def _fetch(stub: Stub, session: str, remaining: Iterator[str]) -> int:
    size = 0
    for key in remaining:
        request = objects_pb2.ResultRequest(session=session, key=key)
        available = await stub.WaitForAvailability(request)
        assert available.WhichOneof("type") == "ok", available
        async for reply in stub.TryGetResultStream(request):
            size += len(reply.result.data)
    return size
