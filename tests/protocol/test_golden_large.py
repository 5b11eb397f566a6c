"""Golden scenarios G29 and G30: many tasks and much data (part 5)."""

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from protocol.attempt_record import kind_of
from protocol.bare_client import Client
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import Conversation
from protocol.footprint import MIB, memory_of
from protocol.messages import (
    CHUNK,
    COMPLETED,
    init_large,
    large_data,
    large_data_complete,
    large_header,
    last_task,
    options,
    out,
    pattern,
    task,
    unique,
)
from protocol.replies import last_result, result_complete, result_data, result_key
from protocol.stubs.submitter_service_pb2 import CreateLargeTaskRequest
from protocol.trees import first_task, growing, regular

_GROWTH_LIMIT = 64 * MIB
_TRANSFER_S = 800.0


async def test_g29_tree_of_sub_tasks(client: Client, workers: Workers) -> None:
    session = await client.session(default=options(max_retries=1))
    root = regular(unique("g29"), [10, 10, 10])
    workers.behave(growing(root), session)

    await client.submit(session, first_task(root))

    assert await client.available(session, root.name, timeout_s=90) is None
    assert await client.result(session, root.name) == str(root.value).encode()
    assert root.tasks == 1 + 10 + 100 + 1_000 + 111
    assert await client.finish(session) == {COMPLETED: root.tasks}


def _large(size: int, seed: bytes) -> Iterator[bytes]:
    """``size`` bytes in chunks of which no two are equal."""
    block = pattern(CHUNK)
    for number, start in enumerate(range(0, size, CHUNK)):
        yield (seed + number.to_bytes(8, "big") + block)[: min(CHUNK, size - start)]


def _digest(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _submission(session: str, name: str, size: int) -> Iterator[CreateLargeTaskRequest]:
    yield init_large(session, options(max_duration_s=_TRANSFER_S))
    yield large_header(task(name))
    for chunk in _large(size, b"payload"):
        yield large_data(chunk)
    yield large_data_complete()
    yield last_task()


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(64 * MIB, id="64 MiB"),
        pytest.param(1024 * MIB, id="1 GiB", marks=[pytest.mark.long, pytest.mark.timeout(1_200)]),
    ],
)
async def test_g30_large_payload_and_result(solo: Stage, size: int) -> None:
    client, workers = solo.client, solo.workers
    session, warm_up, name = await client.session(), unique("g30-warm-up"), unique("g30")
    payload_seen: list[str] = []

    async def pass_through(call: Conversation) -> None:
        digest = hashlib.sha256(call.first.compute.init_request.payload.data)
        while (message := await call.receive()) and kind_of(message) == "compute.payload.data":
            digest.update(message.compute.payload.data)
        payload_seen.append(digest.hexdigest())
        assert kind_of(await call.receive() or call.first) == "compute.init_data.last_data"
        await call.send(result_key("r", out(name)))
        for chunk in _large(size, b"result"):
            await call.send(result_data("r", chunk))
        await call.send(result_complete("r"), last_result("r"))
        await call.ok()

    workers.behave(pass_through, name)
    await client.submit_large(session, task(warm_up, payload=pattern(4 * MIB)))
    assert await client.available(session, out(warm_up)) is None
    assert await client.result(session, out(warm_up)) == pattern(4 * MIB)

    async with memory_of(solo.process) as growth:
        await client.stream_large(_submission(session, name, size), half_close=False, timeout_s=_TRANSFER_S)
        assert await client.available(session, out(name), timeout_s=_TRANSFER_S) is None
        received, result = hashlib.sha256(), 0
        async for reply in client.result_stream(session, out(name), timeout_s=_TRANSFER_S):
            received.update(reply.result.data)
            result += len(reply.result.data)

    assert payload_seen == [_digest(_large(size, b"payload"))]
    assert (result, received.hexdigest()) == (size, _digest(_large(size, b"result")))
    assert {name: grown for name, grown in growth.worst.items() if grown > _GROWTH_LIMIT} == {}


async def test_g30_large_dependency_of_several_tasks(client: Client, workers: Workers) -> None:
    session, source = await client.session(), unique("g30-source")
    names = [unique("g30-reader") for _ in range(6)]
    size, digests = 8 * MIB + 1, list[str]()

    async def produce(call: Conversation) -> None:
        await call.task()
        await call.send_result(source, pattern(size))
        await call.ok()

    async def read(call: Conversation) -> None:
        given = await call.task()
        digests.append(hashlib.sha256(given.data[source]).hexdigest())
        await call.ok()

    workers.behave(produce, source)
    workers.behave(read, *names)
    await client.submit(session, *(task(name, [], needs=[source]) for name in names))
    await client.submit(session, task(source, [source]))

    assert await client.finish(session) == {COMPLETED: 7}
    assert digests == [hashlib.sha256(pattern(size)).hexdigest()] * len(names)


async def test_many_results_of_one_task_at_once(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("many")
    contents = {unique(f"many-{n}"): pattern(n * 997) for n in range(100)}

    async def produce(call: Conversation) -> None:
        await call.task()
        for key, data in contents.items():
            await call.send_result(key, data)
        await call.ok()

    workers.behave(produce, name)
    await client.submit(session, task(name, list(contents)))
    await client.finish(session)

    found = await asyncio.gather(*(client.result(session, key) for key in contents))
    assert dict(zip(contents, found, strict=True)) == contents
