"""The other end of ``Worker.Process``: the product's own worker, driven by an agent made of stubs (part 3)."""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from protocol.attempt_record import kind_of
from protocol.cluster import running
from protocol.messages import CHUNK, chunks, pattern
from protocol.stubs.objects_pb2 import Configuration, DataChunk, Empty
from protocol.stubs.worker_service_pb2 import HealthCheckReply, ProcessReply, ProcessRequest
from protocol.stubs.worker_service_pb2_grpc import WorkerStub

if TYPE_CHECKING:
    from protocol.stubs.worker_service_pb2_grpc import WorkerAsyncStub

Compute = ProcessRequest.ComputeRequest

#: init_request, payload data and its end, a dependency's key, data and end, last_data; then empty messages.
KINDS = "IPCKDEL"
EMPTY = "xyz"
_CALL_S = 10.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worker() -> AsyncIterator["WorkerAsyncStub"]:
    directory = Path(tempfile.mkdtemp(prefix="rp-sdk-"))
    address = f"unix:{directory}/worker"
    try:
        async with (
            running("worker", "protocol.handlers:joined", environment={"RIPIENO_WORKER_ADDRESS": address}),
            grpc.aio.insecure_channel(address) as channel,
        ):
            yield WorkerStub(channel)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def init(payload: bytes = b"", keys: Iterable[str] = ("k",), limit: int = CHUNK) -> ProcessRequest:
    return ProcessRequest(
        compute=Compute(
            init_request=Compute.InitRequest(
                configuration=Configuration(data_chunk_max_size=limit),
                session_id="session",
                task_id="task",
                task_options={"colour": "blue"},
                expected_output_keys=keys,
                payload=DataChunk(data=payload),
            )
        )
    )


def payload_data(data: bytes) -> ProcessRequest:
    return ProcessRequest(compute=Compute(payload=DataChunk(data=data)))


def payload_complete() -> ProcessRequest:
    return ProcessRequest(compute=Compute(payload=DataChunk(data_complete=True)))


def dependency(key: str) -> ProcessRequest:
    return ProcessRequest(compute=Compute(init_data=Compute.InitData(key=key)))


def dependency_data(data: bytes) -> ProcessRequest:
    return ProcessRequest(compute=Compute(data=DataChunk(data=data)))


def dependency_complete() -> ProcessRequest:
    return ProcessRequest(compute=Compute(data=DataChunk(data_complete=True)))


def last_data() -> ProcessRequest:
    return ProcessRequest(compute=Compute(init_data=Compute.InitData(last_data=True)))


def task_of(payload: bytes, data: dict[str, bytes], keys: Iterable[str] = ("k",)) -> Iterator[ProcessRequest]:
    """All messages of a task."""
    first, *rest = chunks(payload)
    yield init(first, keys)
    yield from map(payload_data, rest)
    yield payload_complete()
    for key, content in data.items():
        yield dependency(key)
        yield from map(dependency_data, chunks(content))
        yield dependency_complete()
    yield last_data()


async def converse(
    stub: "WorkerAsyncStub", requests: Iterable[ProcessRequest], *, close_early: bool
) -> list[ProcessReply]:
    """Play the agent: send these, half-close after Output (or at once), return the replies.

    Raises:
        grpc.aio.AioRpcError: the worker ended the call with an error status.
    """
    call = stub.Process(timeout=_CALL_S)
    # A worker that refuses ends the call while we still send; its status is what counts.
    with contextlib.suppress(grpc.aio.AioRpcError):
        for request in requests:
            await call.write(request)
        if close_early:
            await call.done_writing()
    replies = []
    async for reply in call:
        replies.append(reply)
        if reply.WhichOneof("type") == "output" and not close_early:
            await call.done_writing()
    return replies


def results_in(replies: Iterable[ProcessReply]) -> dict[str, bytes]:
    """The results of a conversation, whose order is checked."""
    found, open_keys = dict[str, bytes](), dict[str, str]()
    *before, last = replies
    assert kind_of(last) == "output.ok", last
    for reply in before:
        assert reply.request_id, "a reply without a request id"
        match kind_of(reply):
            case "result.init.key":
                assert reply.request_id not in open_keys
                open_keys[reply.request_id] = reply.result.init.key
                found[reply.result.init.key] = b""
            case "result.data.data":
                assert len(reply.result.data.data) <= CHUNK
                found[open_keys[reply.request_id]] += reply.result.data.data
            case "result.data.data_complete":
                del open_keys[reply.request_id]
            case "result.init.last_result":
                assert reply.request_id not in open_keys
            case kind:
                raise AssertionError(f"unexpected {kind}")
    assert open_keys == {}
    return found


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * CHUNK])
async def test_a_task_of_the_worker_sdk(worker: "WorkerAsyncStub", size: int) -> None:
    data = {"first": pattern(size), "": b"x", "third": b""}

    replies = await converse(worker, task_of(pattern(size), data), close_early=False)

    expected = b"|".join([pattern(size), *(key.encode() + b"=" + content for key, content in data.items())])
    assert results_in(replies) == {"k": expected}


async def test_each_result_under_an_id_of_its_own(worker: "WorkerAsyncStub") -> None:
    keys = [f"key {index}" for index in range(10)]
    replies = await converse(worker, task_of(b"send", {}, keys), close_early=False)
    assert results_in(replies) == {key: key.encode() for key in keys}


async def test_an_exception_is_an_error_status(worker: "WorkerAsyncStub") -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await converse(worker, task_of(b"raise", {}), close_early=False)
    assert "the handler raises" in (error.value.details() or "")


async def test_health_while_the_worker_is_idle(worker: "WorkerAsyncStub") -> None:
    assert (await worker.HealthCheck(Empty(), timeout=_CALL_S)).status == HealthCheckReply.SERVING


def verdict(sequence: str) -> bool | None:
    """Whether the worker accepts it; None while it may still become either."""
    state = "start"
    for kind in sequence:
        match state, kind:
            case "start", "I":
                state = "payload"
            case "payload", "P":
                pass
            case "payload", "C":
                state = "between"
            case "between", "K":
                state = "key"
            case (("key" | "data"), "D"):
                state = "data"
            case "data", "E":
                state = "between"
            case "between", "L":
                return True
            case _:
                return False
    return None


def sequences(length: int) -> Iterator[str]:
    """Sequences up to ``length``, none longer than its first breach or ``last_data``."""
    yield ""
    viable = [""]
    for _ in range(length):
        longer = [sequence + kind for sequence in viable for kind in KINDS + EMPTY]
        yield from longer
        viable = [sequence for sequence in longer if verdict(sequence) is None]


def requests_of(sequence: str) -> Iterator[ProcessRequest]:
    number = itertools.count()
    for kind in sequence:
        match kind:
            case "I":
                yield init(b"first")
            case "P":
                yield payload_data(b" more")
            case "C":
                yield payload_complete()
            case "K":
                yield dependency(f"dependency {next(number)}")
            case "D":
                yield dependency_data(b"data")
            case "E":
                yield dependency_complete()
            case "L":
                yield last_data()
            case "x":
                yield ProcessRequest()
            case "y":
                yield ProcessRequest(compute=Compute())
            case _:
                yield ProcessRequest(compute=Compute(init_data=Compute.InitData()))


#: A key whose bytes are not even one chunk: part 3 wants one or more; a worker may be kinder and wait for more.
EITHER = "KE"


async def test_every_order_of_requests(worker: "WorkerAsyncStub") -> None:
    wrong = []
    for sequence in sequences(6):
        if EITHER in sequence:
            continue
        try:
            # What is not decided yet ends by the half-close, the rest by itself.
            replies = await converse(worker, requests_of(sequence), close_early=verdict(sequence) is None)
        except grpc.aio.AioRpcError as error:
            refused = error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
            right = refused and not verdict(sequence)
        else:
            right = bool(verdict(sequence)) and kind_of(replies[-1]) == "output.ok"
        if not right:
            wrong.append(sequence)
    assert wrong == []
    assert results_in(await converse(worker, task_of(b"still serves", {}), close_early=False)) == {"k": b"still serves"}


async def test_an_agent_that_goes_away(worker: "WorkerAsyncStub") -> None:
    call = worker.Process(timeout=_CALL_S)
    await call.write(init(b"never finished"))
    call.cancel()
    assert results_in(await converse(worker, task_of(b"next", {}), close_early=False)) == {"k": b"next"}
