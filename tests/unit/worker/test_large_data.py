"""Large payloads, data and results pass through a worker in bounded memory."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from unit.worker import requests
from unit.worker.agents import Agent, ProcessReply, ProcessRequest, Run
from unit.worker.processes import WorkerProcess, worker_process

SIZE_BYTES = 100 * 1024 * 1024
GROWTH_LIMIT_BYTES = 64 * 1024 * 1024
WINDOWS_BYTES = 24 * 1024 * 1024
CHUNK_BYTES = requests.CHUNK_BYTES


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    with worker_process("scenarios:handle") as process:
        yield process


async def test_a_large_payload_becomes_a_large_result(worker: WorkerProcess, agent: Agent) -> None:
    process = psutil.Process(worker.pid)
    warm = await agent.begin(requests.whole_task(options={"do": "copy"}))
    while (reply := await warm.next()) is not None and not reply.HasField("output"):
        pass
    before = process.memory_info().rss
    highest = before

    chunks = [bytes([number]) * CHUNK_BYTES for number in range(251)]
    count = SIZE_BYTES // CHUNK_BYTES
    sent, received = hashlib.sha256(), hashlib.sha256()

    def messages() -> Iterator[ProcessRequest]:
        nonlocal highest
        yield requests.init_request(options={"do": "copy"})
        for number in range(count):
            chunk = chunks[number % len(chunks)]
            sent.update(chunk)
            yield requests.payload_chunk(chunk)
            if number % 25 == 0:
                highest = max(highest, process.memory_info().rss)
        yield from (requests.payload_complete(), requests.last_data())

    run = await begin(agent, messages())
    number = 0
    while (reply := await run.next()) is not None and not reply.HasField("output"):
        received.update(reply.result.data.data)
        number += 1
        if number % 25 == 0:
            highest = max(highest, process.memory_info().rss)
    assert isinstance(reply, ProcessReply), run.failed
    assert reply.output.HasField("ok")
    assert received.digest() == sent.digest()
    assert highest - before < GROWTH_LIMIT_BYTES


async def test_large_data_is_read_from_a_file(agent: Agent) -> None:
    payload, datum = bytes(3_000_000), b"x" * 2_000_000
    run = await agent.begin(requests.whole_task("t", payload, options={"do": "digest"}, data={"d": datum}))
    result = b""
    while (reply := await run.next()) is not None and not reply.HasField("output"):
        result += reply.result.data.data
    assert result == hashlib.sha256(payload + datum).digest()


async def test_a_handler_that_streams_does_not_run_ahead(agent: Agent, tmp_path: Path) -> None:
    """Between the handler and the agent there is never more than our outbox and gRPC's own windows."""
    counter = tmp_path / "produced"
    counter.write_bytes(bytes(8))
    run = await agent.begin(requests.whole_task("t", str(counter).encode(), options={"do": "count_up"}))
    received = 0
    while (reply := await run.next()) is not None and not reply.HasField("output"):
        received += len(reply.result.data.data)
        assert int.from_bytes(counter.read_bytes(), "little") - received < WINDOWS_BYTES
    assert received == 1_000 * CHUNK_BYTES


async def begin(agent: Agent, messages: Iterator[ProcessRequest]) -> Run:
    """Begin an attempt without holding all its messages."""
    run = await agent.begin([next(messages)])
    while some := [message for _, message in zip(range(10), messages, strict=False)]:
        await run.send(some)
    return run
