"""Large data that a worker reads where its agent keeps it."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest
import pytest_asyncio

from ripieno.domain.data import ObjectDirectory
from ripieno.objects import prove
from ripieno.wire.protos.v1 import batch_worker_pb2
from ripieno.worker.attempts.reply_outbox import Outbox
from ripieno.worker.conversation.replies import OneResult
from ripieno.worker.process.borders import Borders
from ripieno.worker.running.inbox import BlockingInbox
from ripieno.worker.serving.batch_lane import BatchLane, _Stream
from unit.worker import requests
from unit.worker.agents import BatchRun, BatchStream, agent_of, rest_of, results_of
from unit.worker.processes import WorkerProcess, until_closed, worker_process
from unit.worker.scenarios import some_bytes

Item = batch_worker_pb2.BatchRequest.Item
File = batch_worker_pb2.BatchRequest.File
SIZE = 3_000_000


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with worker_process("scenarios:handle") as process:
        yield process


@pytest_asyncio.fixture
async def stream(worker: WorkerProcess, tmp_path: Path) -> AsyncIterator[BatchStream]:
    """A stream; in the end the worker has none of the files open."""
    async with agent_of(worker.address, "batch") as agent:
        stream = agent.batch_stream()
        yield stream
        await stream.half_close()
        while await stream.receive():
            pass
        await until_closed(worker, str(tmp_path))


@pytest.fixture
def payload(tmp_path: Path) -> File:
    return keep(tmp_path / "payload", some_bytes(SIZE))


def keep(path: Path, data: bytes) -> File:
    path.write_bytes(data)
    return File(path=str(path), size=len(data))


async def begin(stream: BatchStream, *items: Item) -> BatchRun:
    """An attempt that begins with these items."""
    run = await stream.begin([])
    for item in items:
        item.attempt = run.number
    await stream.send(*items)
    return run


def opening(do: str, payload: File, datum: File) -> list[Item]:
    return [
        Item(requests=[requests.init_request(options={"do": do})], file=payload),
        Item(requests=[requests.payload_complete(), requests.data_key("d")], file=datum),
        Item(requests=[requests.data_complete(), requests.last_data()]),
    ]


async def test_the_worker_says_that_it_can(stream: BatchStream, tmp_path: Path) -> None:
    await stream.show(prove(tmp_path, "proof"))
    while not stream.reads_scratch:
        assert await stream.receive()


async def test_of_another_directory_it_says_nothing(stream: BatchStream, tmp_path: Path) -> None:
    prove(tmp_path, "proof")
    await stream.show(ObjectDirectory(str(tmp_path), "proof", "another"))
    run = await stream.begin(requests.whole_task("t", b"x", options={"do": "echo"}))
    assert results_of(await rest_of(run)) == {"r": b"x"}
    assert not stream.reads_scratch


async def test_where_no_thread_can_be_started_it_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor())
    outbox = Outbox(loop)
    async with asyncio.TaskGroup() as readers:
        lane = BatchLane(BlockingInbox(), Borders(None), readers)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_more)
            await lane._look_at_scratch(_Stream(outbox, OneResult(), Borders(None)), prove(tmp_path, "proof"))
    outbox.finish()
    assert not await outbox.take(1)


async def test_payload_and_data_lie_in_files(stream: BatchStream, payload: File, tmp_path: Path) -> None:
    data = some_bytes(2 * SIZE)
    run = await begin(stream, *opening("digest", payload, keep(tmp_path / "d", data)))
    assert results_of(await rest_of(run)) == {"r": hashlib.sha256(some_bytes(SIZE) + data).digest()}
    assert run.failed is None
    assert (tmp_path / "payload").exists(), "whoever keeps it removes it"


async def test_what_is_small_comes_along(stream: BatchStream, tmp_path: Path) -> None:
    first = requests.init_request(options={"do": "tell"}, first_chunk=b"small payload")
    middle = [requests.payload_complete(), requests.data_key("d")]
    run = await begin(
        stream,
        Item(requests=[first, *middle], file=keep(tmp_path / "d", b"from a file")),
        Item(requests=[requests.data_complete(), requests.data_key("e"), requests.data_chunk(b"from a chunk")]),
        Item(requests=[requests.data_complete(), requests.last_data()]),
    )
    told = results_of(await rest_of(run))["r"]
    for part in (b"small payload", b"from a file", b"from a chunk"):
        assert part in told


async def test_a_file_that_goes_away_while_it_is_open(stream: BatchStream, payload: File, tmp_path: Path) -> None:
    items = opening("digest", payload, keep(tmp_path / "d", b"d"))
    run = await begin(stream, *items[:1])
    other = await stream.begin(requests.whole_task("o", b"x", options={"do": "echo"}))
    assert results_of(await rest_of(other)) == {"r": b"x"}  # the first item has been read by now
    (tmp_path / "payload").unlink()
    for item in items[1:]:
        item.attempt = run.number
    await stream.send(*items[1:])
    assert results_of(await rest_of(run)) == {"r": hashlib.sha256(some_bytes(SIZE) + b"d").digest()}


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (
            Item(requests=[requests.init_request(first_chunk=b"x")], file=File(path="/proc/version")),
            "a file behind other data arrived where compute.payload was due",
        ),
        (
            Item(requests=[requests.init_request(), requests.payload_complete()], file=File(path="/proc/version")),
            "a file arrived where compute.init_data was due",
        ),
    ],
)
async def test_a_file_that_has_no_place_there_fails_its_attempt(stream: BatchStream, item: Item, why: str) -> None:
    run = await begin(stream, item)
    await rest_of(run)
    assert run.failed is not None and why in run.failed
    later = await stream.begin(requests.whole_task("t", b"x", options={"do": "echo"}))
    assert results_of(await rest_of(later)) == {"r": b"x"}


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (File(path="/no/such", size=1), "No such file"),
        (File(path="/proc/version", size=1), "0 bytes instead of 1"),
    ],
)
async def test_an_attempt_whose_file_cannot_be_read_goes_back(stream: BatchStream, file: File, why: str) -> None:
    """It is no fault of the attempt, which has not begun."""
    run = await begin(stream, Item(requests=[requests.init_request()], file=file))
    await rest_of(run)
    assert run.withdrawn and run.failed is not None and why in run.failed
    later = await stream.begin(requests.whole_task("t", b"x", options={"do": "echo"}))
    assert results_of(await rest_of(later)) == {"r": b"x"}


async def test_a_withdrawn_attempt_lets_go_of_its_file(stream: BatchStream, payload: File) -> None:
    run = await begin(stream, Item(requests=[requests.init_request()], file=payload))
    await run.withdraw()
    assert await run.next() is None
    assert run.withdrawn
