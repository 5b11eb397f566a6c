"""The bare worker itself: what it notices of an agent that breaks the rules."""

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from protocol.attempt_record import ProtocolBreachError
from protocol.bare_worker import Workers, bare_workers
from protocol.messages import CHUNK, unique
from protocol.stubs.objects_pb2 import Configuration, DataChunk, Empty
from protocol.stubs.worker_service_pb2 import HealthCheckReply, ProcessReply, ProcessRequest
from protocol.stubs.worker_service_pb2_grpc import WorkerStub

Compute = ProcessRequest.ComputeRequest


@pytest_asyncio.fixture(loop_scope="session")
async def alone() -> AsyncIterator[Workers]:
    async with bare_workers(1) as workers:
        yield workers


def _request(**fields: object) -> ProcessRequest:
    return ProcessRequest(compute=Compute(**fields))  # type: ignore[arg-type]


def _task(name: str) -> list[ProcessRequest]:
    init = Compute.InitRequest(
        configuration=Configuration(data_chunk_max_size=CHUNK),
        session_id="s",
        task_id=name,
        expected_output_keys=["k"],
        payload=DataChunk(data=b"pay"),
    )
    return [
        _request(init_request=init),
        _request(payload=DataChunk(data=b"load")),
        _request(payload=DataChunk(data_complete=True)),
        _request(init_data=Compute.InitData(key="d")),
        _request(data=DataChunk(data=b"bytes")),
        _request(data=DataChunk(data_complete=True)),
        _request(init_data=Compute.InitData(last_data=True)),
    ]


async def _drive(workers: Workers, requests: list[ProcessRequest], after: list[ProcessRequest]) -> list[ProcessReply]:
    """Play an agent: these messages, then, once Output is there, those."""
    async with grpc.aio.insecure_channel(workers.addresses[0]) as channel:
        call = WorkerStub(channel).Process(timeout=5)
        for request in requests:
            await call.write(request)
        replies: list[ProcessReply] = []
        async for reply in call:
            replies.append(reply)
            if reply.WhichOneof("type") == "output":
                for request in after:
                    await call.write(request)
                await call.done_writing()
        return replies


async def test_a_correct_conversation(alone: Workers) -> None:
    name = unique("correct")

    replies = await _drive(alone, _task(name), [])

    assert b"".join(reply.result.data.data for reply in replies) == b"payload"
    [attempt] = alone.attempts_of(name)
    await alone.ended(attempt)
    assert attempt.half_closed and not attempt.cancelled
    assert attempt.log[-2:] == ["> output.ok", "< half-close"]
    assert alone.breaches == []


@pytest.mark.parametrize("missing", [2, 3, 4, 5])
async def test_a_missing_message_is_noticed(alone: Workers, missing: int) -> None:
    requests = _task(unique("missing"))
    del requests[missing]

    with pytest.raises(grpc.aio.AioRpcError):
        await _drive(alone, requests, [])

    assert [type(breach) for breach in alone.breaches] == [ProtocolBreachError]


async def test_a_message_after_output_is_noticed(alone: Workers) -> None:
    requests = _task(unique("after"))

    with pytest.raises(grpc.aio.AioRpcError):
        await _drive(alone, requests, requests[-1:])

    assert [type(breach) for breach in alone.breaches] == [ProtocolBreachError]


async def test_health(alone: Workers) -> None:
    [each] = alone.all
    async with grpc.aio.insecure_channel(each.address) as channel:
        stub = WorkerStub(channel)
        assert (await stub.HealthCheck(Empty())).status == HealthCheckReply.SERVING
        each.health = None
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.HealthCheck(Empty())
        assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await each.stop()
        await each.start()
        each.health = HealthCheckReply.NOT_SERVING
        assert (await stub.HealthCheck(Empty(), wait_for_ready=True)).status == HealthCheckReply.NOT_SERVING
    assert each.health_checks == [HealthCheckReply.SERVING, None, HealthCheckReply.NOT_SERVING]
