"""Large results that are written where the object store is: by workers, or by the agent for them."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ripieno.agent.attempts.attempt import Attempt, RunOptions
from ripieno.agent.scheduling.slots import Slot
from ripieno.agent.uplink import names, uplink
from ripieno.agent.uplink.link import Link
from ripieno.agent.uplink.names import ObjectNames
from ripieno.agent.workers.batch_lane import MOST_NAMES, BatchLane
from ripieno.domain.data import ObjectDirectory
from ripieno.wire.outcomes import directory_to_wire
from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.conftest import Serve
from unit.agent.replica import Replica, Task
from unit.agent.running import agent
from unit.agent.test_lanes import inline_result
from unit.agent.test_uplink import other as other  # a fixture
from unit.agent.toy_worker import ToyWorker, start
from unit.worker.processes import worker_process
from unit.worker.scenarios import some_bytes

Reason = agent_pb2.Outcome.Failed
PROOF = "it is this one"
LARGE = 1_500_000


@pytest.fixture
def place(tmp_path: Path) -> ObjectDirectory:
    (tmp_path / "proof").write_text(PROOF)
    return ObjectDirectory(str(tmp_path), "proof", PROOF)


@pytest.fixture(autouse=True)
def offered(replica: Replica, place: ObjectDirectory) -> None:
    replica.directory = place


@pytest.fixture(scope="module")
def batch_worker() -> Iterator[str]:
    with worker_process("scenarios:handle") as worker:
        yield worker.address


@pytest.fixture(scope="module")
def single_worker() -> Iterator[str]:
    with worker_process("--single", "scenarios:handle") as worker:
        yield worker.address


@pytest.fixture(params=["batch_worker", "single_worker"])
def any_worker(request: pytest.FixtureRequest) -> str:
    return cast(str, request.getfixturevalue(request.param))


Files = Callable[[], dict[str, bytes]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """What lies in the directory beside the proof, by name."""
    return lambda: {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "proof"
    }


def give(task_id: str, size: int) -> Task:
    return Task(task_id, ("r",), payload=str(size).encode(), options={"do": "give"})


def make(task_id: str, **sizes: int) -> Task:
    orders = {key: f"{size}/99991" for key, size in sizes.items()}
    return Task(task_id, tuple(sizes), options={"do": "make", **orders})


def objects_of(outcome: agent_pb2.Outcome) -> dict[str, agent_pb2.StoredObject]:
    assert outcome.HasField("completed"), outcome.failed.detail
    return {result.key: result.data.object for result in outcome.completed.results if result.data.HasField("object")}


def check(stored: agent_pb2.StoredObject, size: int, data: bytes) -> None:
    assert data == some_bytes(size)
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).digest())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nothing tells of."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)


# ------------------------------------------------------------------ where they go


async def test_a_large_result_is_a_file(replica: Replica, any_worker: str, files: Files) -> None:
    """Of a worker of either lane: written by itself, or by the agent for it."""
    async with agent(replica, attach=(any_worker,)):
        replica.submit(give("t", LARGE))
        stored = objects_of(await replica.outcome_of("t"))
    assert stored["r"].name in replica.staged
    check(stored["r"], LARGE, files()[stored["r"].name])
    assert len(files()) == 1
    assert replica.objects == {}


async def test_large_and_small_results_of_many_tasks(replica: Replica, any_worker: str, files: Files) -> None:
    sizes = {"a": 10, "b": 70_000, "c": LARGE, "d": 65_536, "e": 65_537}
    async with agent(replica, attach=(any_worker,)):
        replica.submit(*[make(f"t{number}", **sizes) for number in range(20)])
        await replica.until(lambda: len(replica.outcomes) == 20)
    written = files()
    for (outcome,) in replica.outcomes.values():
        assert [result.key for result in outcome.completed.results] == list(sizes)
        for result in outcome.completed.results:
            if sizes[result.key] <= 65_536:
                assert result.data.inline == some_bytes(sizes[result.key])
            else:
                check(result.data.object, sizes[result.key], written.pop(result.data.object.name))
    assert written == {}
    assert replica.objects == {}


@pytest.mark.parametrize("spoil", ["no directory", "other proof", "no proof"])
async def test_without_the_directory_it_goes_to_the_control_plane(
    replica: Replica, any_worker: str, tmp_path: Path, files: Files, spoil: str
) -> None:
    if spoil == "no directory":
        replica.directory = None
    elif spoil == "other proof":
        (tmp_path / "proof").write_text("another one")
    else:
        (tmp_path / "proof").unlink()
    async with agent(replica, attach=(any_worker,)):
        replica.submit(give("t", LARGE))
        stored = objects_of(await replica.outcome_of("t"))
    check(stored["r"], LARGE, replica.objects[stored["r"].name])
    assert (files(), replica.staged) == ({}, [])


async def test_a_worker_that_knows_nothing_of_it(replica: Replica, serve: Serve, files: Files) -> None:
    """The agent writes for it what comes in chunks."""
    worker, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload=b"big:1000000"))
        [stored] = objects_of(await replica.outcome_of("t")).values()
    assert worker.offers[0].directory == directory_to_wire(cast(ObjectDirectory, replica.directory))
    assert files() == {stored.name: bytes(stored.size)}


async def test_a_large_payload_becomes_a_large_result(replica: Replica, any_worker: str, files: Files) -> None:
    """The worker is told of the directory in time although the first attempt is sent piece by piece."""
    replica.objects["payload"] = some_bytes(3_000_000)
    async with agent(replica, attach=(any_worker,)):
        replica.submit(Task("t", ("r",), payload="payload", options={"do": "copy"}))
        stored = objects_of(await replica.outcome_of("t"))
    check(stored["r"], 3_000_000, files()[stored["r"].name])
    assert list(replica.objects) == ["payload"]


async def test_a_worker_that_is_up_before_the_control_plane(replica: Replica, serve: Serve) -> None:
    worker, address = await serve(batch=True)
    replica.welcoming.clear()

    async def welcome() -> None:
        await until(lambda: worker.streams == 2)  # a look, and the lane
        replica.welcoming.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(welcome())
        async with agent(replica, attach=(address,)):
            replica.submit(Task("t"), Task("u"))
            await replica.outcome_of("u")
    [offer] = worker.offers
    assert offer.directory == directory_to_wire(cast(ObjectDirectory, replica.directory))
    assert offer.larger_than_bytes == 65_536


async def test_a_file_system_that_does_not_answer(
    replica: Replica, batch_worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(uplink, "REACH_S", 0.01)
    monkeypatch.setattr(uplink, "is_writable", lambda directory: answer.wait(60))
    try:
        async with agent(replica, attach=(batch_worker,)):
            replica.submit(give("t", LARGE))
            stored = objects_of(await replica.outcome_of("t"))
    finally:
        answer.set()
    check(stored["r"], LARGE, replica.objects[stored["r"].name])


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("name", ["foreign", "", "../foreign"])
async def test_a_name_that_the_worker_was_not_given(replica: Replica, serve: Serve, name: str) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("liar", payload=f"stored:{name}".encode()), Task("fine", payload=b"x"))
        failed = (await replica.outcome_of("liar")).failed
        assert failed.reason == Reason.ATTEMPT
        assert failed.detail == (
            f"the worker broke the protocol: object {name!r} is not one that it was given a name for"
        )
        assert inline_result(await replica.outcome_of("fine")) == b"x"


async def test_a_directory_that_takes_nothing_for_a_while(
    replica: Replica, single_worker: str, tmp_path: Path, files: Files
) -> None:
    """What the agent cannot write is not the attempt's fault: it is given back."""
    async with agent(replica, attach=(single_worker,)):
        gone = tmp_path.rename(tmp_path.with_suffix(".gone"))
        replica.submit(give("t", LARGE))
        await replica.until(lambda: "t" in replica.released)
        gone.rename(tmp_path)
        stored = objects_of(await replica.outcome_of("t"))
    check(stored["r"], LARGE, files()[stored["r"].name])


async def test_cancelled_while_there_is_no_name(replica: Replica, any_worker: str, files: Files) -> None:
    async with agent(replica, attach=(any_worker,)):
        replica.staging.clear()
        replica.submit(give("t", LARGE))
        await replica.until(lambda: bool(replica.stagings))
        replica.cancel("t")
        assert (await replica.outcome_of("t")).HasField("cancelled")
        replica.staging.set()
        replica.submit(give("next", LARGE))
        stored = objects_of(await replica.outcome_of("next"))
    assert set(files()) == {stored["r"].name}


async def test_the_replica_goes_while_it_is_asked_for_a_name(
    replica: Replica, other: Replica, place: ObjectDirectory, any_worker: str, files: Files
) -> None:
    other.directory = place
    async with agent(replica, attach=(any_worker,), control=(replica.address, other.address)):
        replica.staging.clear()
        replica.submit(give("t", LARGE))
        await replica.until(lambda: bool(replica.stagings))
        other.claims = replica.claims
        await replica.stop()
        replica.staging.set()
        await other.until(lambda: bool(other.hellos))
        stored = objects_of(await other.outcome_of("t"))
        other.submit(give("next", LARGE))
        following = objects_of(await other.outcome_of("next"))
    assert set(files()) == {stored["r"].name, following["r"].name}
    check(stored["r"], LARGE, files()[stored["r"].name])


async def test_another_replica_whose_directory_is_not_here(replica: Replica, other: Replica, batch_worker: str) -> None:
    """The worker was told of the directory before: names are what it lacks now."""
    async with agent(replica, attach=(batch_worker,), control=(replica.address, other.address)):
        replica.submit(give("t", LARGE))
        assert objects_of(await replica.outcome_of("t"))["r"].name in replica.staged
        await replica.stop()
        await other.until(lambda: bool(other.hellos))
        other.submit(*[make(f"t{number}", a=LARGE, b=LARGE, c=LARGE) for number in range(3)])
        for number in range(3):
            stored = objects_of(await other.outcome_of(f"t{number}"))
            assert list(stored) == ["a", "b", "c"]
            for each in stored.values():
                assert each.name in replica.staged or each.name in other.objects
    assert other.objects


async def test_what_was_uploading_when_the_worker_went(serve: Serve, tmp_path: Path) -> None:
    """It may run again, and upload under the same numbers: what is left of the first time ends before."""
    worker = ToyWorker()
    address = f"unix:{tmp_path}/toy"
    server = await start(worker, address, batch=True)
    attempt = Attempt(1, 1, 1, "s", "t", "t", RunOptions({}, 60.0), ["r"], (), b"nap:30")
    aborted: list[Attempt] = []
    dispatcher = SimpleNamespace(up=lambda slot, lane: lane.start([attempt]))
    exchange = SimpleNamespace(abort=aborted.append, scratch=ObjectDirectory(str(tmp_path), "proof", "of nothing"))
    lane = BatchLane(address, Slot("slot"), cast(Any, dispatcher), cast(Any, exchange), Link(), lambda reason: False)
    running = asyncio.create_task(lane.run())
    await until(lambda: worker.ids == ["t"])
    assert aborted == []
    await server.stop(0)
    with pytest.raises(ExceptionGroup):
        await running
    assert aborted == [attempt]


# ------------------------------------------------------------------ names


class Stub:
    """Hands out numbers."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    async def StageObjects(self, request: agent_pb2.StageObjectsRequest) -> agent_pb2.StageObjectsReply:  # noqa: N802
        first = sum(self.counts)
        self.counts.append(request.count)
        await asyncio.sleep(0)
        return agent_pb2.StageObjectsReply(names=[str(first + number) for number in range(request.count)])

    async def here(self) -> Any:
        return self


async def test_names_are_asked_for_as_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("ripieno.agent.uplink.names.time", SimpleNamespace(monotonic=lambda: now))
    stub = Stub()
    pool = ObjectNames(stub.here)
    taken = [await pool.take() for _ in range(1_000)]
    assert stub.counts == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]
    now += 2
    taken += [await pool.take() for _ in range(sum(stub.counts) - 1_000 + 1)]
    assert stub.counts[-1] == 1
    assert len(set(taken)) == len(taken)


async def test_names_that_grew_old_are_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("ripieno.agent.uplink.names.time", SimpleNamespace(monotonic=lambda: now))
    stub = Stub()
    pool = ObjectNames(stub.here)
    assert [await pool.take() for _ in range(2)] == ["0", "1"]
    now += names.USE_WITHIN_S + 1
    assert await pool.take() == "3"


async def test_names_for_many_at_once() -> None:
    stub = Stub()
    pool = ObjectNames(stub.here)
    taken = await asyncio.gather(*(pool.take() for _ in range(100)))
    assert len(set(taken)) == 100
    waiting = asyncio.create_task(ObjectNames(asyncio.Event().wait).take())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_busy_worker_is_given_several_names(replica: Replica, batch_worker: str) -> None:
    async with agent(replica, attach=(batch_worker,)):
        for number in range(6):
            replica.submit(make(f"t{number}", **{f"r{each}": 66_000 for each in range(40)}))
            assert len(objects_of(await replica.outcome_of(f"t{number}"))) == 40
    used = 6 * 40
    assert used <= len(replica.staged) <= 2 * used + 256 + MOST_NAMES
    assert len(replica.stagings) < used / 3
