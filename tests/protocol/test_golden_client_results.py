"""Golden scenarios of the services beside version 2: results that a client makes, and workers of version 2 that read them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest_asyncio

from protocol.bare_client import ABORTED, RESULT_COMPLETED, Client, reasons, refused
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import Conversation
from protocol.messages import COMPLETED, ERROR, SUBMITTED, out, unique
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc, tasks_pb2, tasks_pb2_grpc

LARGE = hashlib.shake_128(b"large").digest(400_000)


class Services:
    """Stubs of the services beside version 2."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.results: Any = results_pb2_grpc.ResultsStub(channel)
        self.tasks: Any = tasks_pb2_grpc.TasksStub(channel)

    async def create(self, session: str, *data: bytes | None) -> list[str]:
        entries = [results_pb2.CreateResultsRequest.Entry(data=each) for each in data]
        reply = await self.results.Create(results_pb2.CreateResultsRequest(session_id=session, entries=entries))
        return [entry.key for entry in reply.entries]

    async def upload(self, key: str, *chunks: bytes) -> results_pb2.UploadReply:
        """Upload to a key alone, which leads to its session; the last reply."""
        call = self.results.Upload()
        try:
            await call.write(results_pb2.UploadRequest(begin=results_pb2.UploadBegin(key=key)))
            for chunk in chunks:
                await call.write(results_pb2.UploadRequest(chunk=chunk))
            await call.write(results_pb2.UploadRequest(complete=True))
            await call.done_writing()
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            pass  # it has ended; reading says how
        replies: list[results_pb2.UploadReply] = [reply async for reply in call]
        return replies[-1]

    async def submit(self, session: str, *tasks: tasks_pb2.SubmitTasksRequest.NewTask) -> list[str]:
        reply = await self.tasks.Submit(tasks_pb2.SubmitTasksRequest(session_id=session, tasks=tasks))
        return list(reply.task_ids)


@pytest_asyncio.fixture(loop_scope="session")
async def services(stage: Stage) -> AsyncIterator[Services]:
    async with grpc.aio.insecure_channel(
        stage.process.address, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield Services(channel)


new_task = tasks_pb2.SubmitTasksRequest.NewTask


async def test_payload_and_dependencies_that_the_client_made(
    services: Services, client: Client, workers: Workers
) -> None:
    session, first = await client.session(), unique("of a client")
    small, large, later = await services.create(session, b"small", LARGE, None)
    assert await client.result_statuses(session, small, large) == {small: RESULT_COMPLETED, large: RESULT_COMPLETED}
    received: dict[str, bytes] = {}

    async def keep(call: Conversation) -> None:
        given = await call.task()
        received.update(given.data, payload=given.payload)
        await call.send_result(out(first), b"done")
        await call.ok()

    workers.behave(keep, first)
    new = new_task(id=first, payload_key=large, data_dependencies=[small, later], expected_output_keys=[out(first)])
    assert await services.submit(session, new) == [first]
    assert await services.submit(session, new) == [first], "the same once more changes nothing"
    assert await client.status(first) == SUBMITTED
    done = await services.upload(later, b"it came ", b"later")
    assert (done.complete, done.offset, done.sha256) == (True, 13, hashlib.sha256(b"it came later").digest())

    assert await client.available(session, out(first)) is None
    assert await client.result(session, out(first)) == b"done"
    assert received == {"payload": LARGE, small: b"small", later: b"it came later"}
    assert await client.result(session, large) == LARGE
    assert len(workers.attempts_of(first)) == 1


async def test_a_task_becomes_the_owner_of_what_the_client_created(
    services: Services, client: Client, workers: Workers
) -> None:
    session, maker = await client.session(), unique("maker")
    [key] = await services.create(session, None)

    async def make(call: Conversation) -> None:
        await call.task()
        await call.send_result(key, b"made")
        await call.ok()

    workers.behave(make, maker)
    await services.submit(session, new_task(id=maker, expected_output_keys=[key]))
    assert await client.available(session, key) is None
    assert await client.result(session, key) == b"made"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, naming=[key, maker]):
        await services.upload(key, b"mine")
    [complete] = await services.create(session, b"")
    with refused(grpc.StatusCode.ALREADY_EXISTS, naming=[complete]):
        await services.submit(session, new_task(id=unique("late"), expected_output_keys=[complete]))
    assert await client.status(maker) == COMPLETED


async def test_deleted_data(services: Services, client: Client, workers: Workers) -> None:
    session, waiting, below, late = await client.session(), unique("waits"), unique("below"), unique("late")
    key, never = await services.create(session, b"data", None)
    await services.submit(
        session,
        new_task(id=waiting, data_dependencies=[key, never], expected_output_keys=[out(waiting)]),
        new_task(id=below, data_dependencies=[out(waiting)], expected_output_keys=[out(below)]),
    )
    request = results_pb2.DeleteDataRequest(session_id=session, keys=[key, never])
    assert list((await services.results.DeleteData(request)).deleted_keys) == [key]
    await services.submit(session, new_task(id=late, payload_key=key, expected_output_keys=[out(late)]))

    for name in (waiting, below, late):
        error = await client.available(session, out(name))
        assert f"input '{key}' is gone: its data was deleted" in " ".join(reasons(error))
    assert await client.statuses(waiting, below, late) == dict.fromkeys((waiting, below, late), ERROR)
    assert reasons(await client.available(session, key)) == ["its data was deleted"]
    assert await client.result_statuses(session, key) == {key: ABORTED}
    assert [workers.attempts_of(name) for name in (waiting, below, late)] == [[], [], []]
    await client.cancel_session(session)
    assert await client.result_statuses(session, never) == {never: ABORTED}
