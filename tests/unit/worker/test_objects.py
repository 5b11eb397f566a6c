"""Large results that a worker writes as files where the object store is."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import pytest_asyncio

from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.objects import PIECE_BYTES, ObjectFile
from ripieno.worker.attempts import object_place as objects
from ripieno.worker.attempts.attempt import Attempt
from ripieno.worker.attempts.drivers import blocking
from ripieno.worker.attempts.object_place import ObjectPlace
from ripieno.worker.attempts.operations import ResultWriter
from ripieno.worker.conversation.replies import ProcessReply
from ripieno.worker.terms.errors import AttemptOver, TaskCancelled
from unit.worker import requests
from unit.worker.agents import Agent, BatchRun, BatchStream, agent_of, rest_of, results_of
from unit.worker.processes import WorkerProcess, until_closed, worker_process
from unit.worker.scenarios import some_bytes

LIMIT_BYTES = 65_536
LARGE = LIMIT_BYTES + 1
PROOF = "it is this one"


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, WorkerProcess]]:
    with worker_process("scenarios:handle") as plain, worker_process("scenarios:handle_async") as coroutine:
        yield {"plain": plain, "async": coroutine}


@pytest.fixture(params=["plain"])
def worker(workers: dict[str, WorkerProcess], request: pytest.FixtureRequest) -> WorkerProcess:
    return workers[request.param]


both_kinds = pytest.mark.parametrize("worker", ["plain", "async"], indirect=True)


@pytest_asyncio.fixture
async def agent(worker: WorkerProcess) -> AsyncIterator[Agent]:
    async with agent_of(worker.address, "batch") as agent:
        yield agent


@pytest.fixture
def place(tmp_path: Path) -> ObjectDirectory:
    (tmp_path / "proof").write_text(PROOF)
    return ObjectDirectory(str(tmp_path), "proof", PROOF)


@pytest_asyncio.fixture
async def stream(agent: Agent, place: ObjectDirectory, worker: WorkerProcess) -> AsyncIterator[BatchStream]:
    """A stream with an offer and no names yet; in the end the worker has none of its files open."""
    stream = agent.batch_stream()
    await stream.offer(place, LIMIT_BYTES)
    yield stream
    await stream.half_close()
    while await stream.receive():
        pass
    await until_closed(worker, place.path)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """What lies in the directory beside the proof, by name."""
    return lambda: {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "proof"
    }


Files = Callable[[], dict[str, bytes]]


def task(do: str, /, **results: str) -> Iterator[requests.ProcessRequest]:
    """A task that owes the results named, each with what is said of it as an option."""
    keys = [key for key in results if key != "error"]
    return requests.whole_task("t", keys=keys, options={"do": do, **results})


def give(size: int) -> Iterator[requests.ProcessRequest]:
    """A task that returns so many bytes."""
    return requests.whole_task("t", str(size).encode(), options={"do": "give"})


def stored(name: str, size: int) -> StoredObject:
    return StoredObject(name, size, hashlib.sha256(some_bytes(size)).digest())


async def end_of(run: BatchRun) -> list[ProcessReply]:
    """All replies of an attempt that ends with ok."""
    replies = await rest_of(run)
    assert run.failed is None
    assert replies[-1].output.HasField("ok")
    return replies


async def failure_of(run: BatchRun) -> str:
    await rest_of(run)
    assert run.failed is not None
    return run.failed


# ------------------------------------------------------------------ what is written


@both_kinds
@pytest.mark.parametrize(
    "order",
    [
        f"{LARGE}",
        f"{PIECE_BYTES}",
        f"{PIECE_BYTES}/{PIECE_BYTES // 4}",
        f"{PIECE_BYTES + 1}",
        f"{2 * PIECE_BYTES}",
        f"{2 * PIECE_BYTES + 1}/{PIECE_BYTES - 1}",
        f"{3 * PIECE_BYTES - 1}/{PIECE_BYTES + 1}",
        "5000000/99991",
        "300000/997",
        "7000000",
    ],
)
async def test_a_large_result_is_a_file(stream: BatchStream, files: Files, order: str) -> None:
    await stream.name("ab/object")
    run = await stream.begin(task("make", r=order))
    assert results_of(await end_of(run)) == {}
    size = int(order.partition("/")[0])
    assert run.stored == {"r": stored("ab/object", size)}
    assert files() == {"ab/object": some_bytes(size)}
    assert stream.asks == 0


@both_kinds
@pytest.mark.parametrize("size", [LARGE, 5_000_000])
async def test_a_large_result_that_is_returned(stream: BatchStream, files: Files, size: int) -> None:
    await stream.name("object")
    run = await stream.begin(give(size))
    assert results_of(await end_of(run)) == {}
    assert run.stored == {"r": stored("object", size)}
    assert files() == {"object": some_bytes(size)}


@both_kinds
@pytest.mark.parametrize("order", ["0", "1", "1000/7", f"{LIMIT_BYTES}", f"{LIMIT_BYTES}/1000"])
async def test_a_small_result_goes_by_the_stream(stream: BatchStream, files: Files, order: str) -> None:
    await stream.name("object")
    run = await stream.begin(task("make", r=order))
    assert results_of(await end_of(run)) == {"r": some_bytes(int(order.partition("/")[0]))}
    assert (run.stored, files(), stream.asks) == ({}, {}, 0)


@pytest.mark.parametrize("size", [1, LIMIT_BYTES])
async def test_a_small_result_that_is_returned(stream: BatchStream, files: Files, size: int) -> None:
    run = await stream.begin(give(size))
    assert results_of(await end_of(run)) == {"r": some_bytes(size)}
    assert (run.stored, files(), stream.asks) == ({}, {}, 0)


@pytest.mark.parametrize("order", ["5000000/99991", f"{3 * PIECE_BYTES}/{PIECE_BYTES}", "300000/997"])
async def test_a_buffer_that_is_used_again(stream: BatchStream, files: Files, order: str) -> None:
    await stream.name("object")
    run = await stream.begin(task("make_of_one_buffer", r=order))
    await end_of(run)
    size = int(order.partition("/")[0])
    assert run.stored == {"r": stored("object", size)}
    assert files() == {"object": some_bytes(size)}


@both_kinds
async def test_200_mib_in_bounded_memory(stream: BatchStream, worker: WorkerProcess, tmp_path: Path) -> None:
    process = psutil.Process(worker.pid)
    await stream.name("warm", "object")
    await end_of(await stream.begin(task("make_from_nothing", r="20")))
    before = most = process.memory_info().rss
    run = await stream.begin(task("make_from_nothing", r="200"))
    ending = asyncio.create_task(end_of(run))
    while not ending.done():
        most = max(most, process.memory_info().rss)
        await asyncio.wait([ending], timeout=0.01)
    await ending
    assert run.stored["r"].size == (tmp_path / "object").stat().st_size == 200 * 1024 * 1024
    assert most - before < 16 * 1024 * 1024


# ------------------------------------------------------------------ names


@both_kinds
async def test_a_name_is_asked_for(stream: BatchStream, files: Files) -> None:
    run = await stream.begin(task("make", r="200000"))
    await stream.asked()
    assert files() == {}
    await stream.name("object", "spare")
    await end_of(run)
    assert run.stored == {"r": stored("object", 200_000)}
    run = await stream.begin(task("make", r="100000"))
    await end_of(run)
    assert run.stored == {"r": stored("spare", 100_000)}
    assert stream.asks == 1


@pytest.mark.parametrize(("worker", "do"), [("plain", "make_at_once"), ("async", "make")], indirect=["worker"])
async def test_several_results_at_once(stream: BatchStream, files: Files, do: str) -> None:
    """The question is not put again before it is answered, and then by those that are left."""
    sizes = {"a": 1_500_000, "b": 2_000_000, "c": 2_500_000, "small": 5}
    run = await stream.begin(task(do, **{key: f"{size}/99991" for key, size in sizes.items()}))
    for number in range(3):
        await stream.asked(number + 1)
        await stream.name(f"object-{number}")
    assert results_of(await end_of(run)) == {"small": some_bytes(5)}
    assert stream.asks == 3
    names = {each.name: each.size for each in run.stored.values()}
    assert {key: each.size for key, each in run.stored.items()} == {key: sizes[key] for key in "abc"}
    assert files() == {name: some_bytes(size) for name, size in names.items()}


async def test_results_one_after_the_other(stream: BatchStream, files: Files) -> None:
    await stream.name("one", "two")
    run = await stream.begin(task("make", a="100000", b="7", c="2000000"))
    assert results_of(await end_of(run)) == {"b": some_bytes(7)}
    assert run.stored == {"a": stored("one", 100_000), "c": stored("two", 2_000_000)}


@both_kinds
async def test_without_names_it_goes_by_the_stream(stream: BatchStream, files: Files) -> None:
    for asks, order in enumerate(("200000/997", "300000", "2000000/99991"), 1):
        run = await stream.begin(task("make", r=order))
        await stream.asked(asks)
        await stream.name()
        assert results_of(await end_of(run)) == {"r": some_bytes(int(order.partition("/")[0]))}
        assert (run.stored, files()) == ({}, {})


@both_kinds
async def test_a_stream_that_brings_nothing_more_brings_no_name(stream: BatchStream, files: Files) -> None:
    waiting = await stream.begin(task("make", r="200000"))
    following = await stream.begin(task("make", r="300000"))
    await stream.asked()
    await stream.half_close()
    assert results_of(await end_of(waiting)) == {"r": some_bytes(200_000)}
    assert results_of(await end_of(following)) == {"r": some_bytes(300_000)}
    assert (stream.asks, files()) == (1, {})


@both_kinds
@pytest.mark.parametrize("spoil", [lambda proof: proof.write_text("another one"), lambda proof: proof.unlink()])
async def test_another_directory_of_that_name(
    agent: Agent, place: ObjectDirectory, files: Files, spoil: Callable[[Path], object]
) -> None:
    spoil(Path(place.path, place.proof_file))
    stream = agent.batch_stream()
    await stream.offer(place, LIMIT_BYTES)
    run = await stream.begin(task("make", r="200000"))
    assert results_of(await end_of(run)) == {"r": some_bytes(200_000)}
    assert (stream.asks, run.stored, files()) == (0, {}, {})


# ------------------------------------------------------------------ what is not completed


@pytest.mark.parametrize("order", ["10", f"{LARGE}", "5000000/99991"], ids=["small", "one piece", "pieces"])
@pytest.mark.parametrize("error", ["final", "plain"])
async def test_an_error_in_the_middle_leaves_nothing(stream: BatchStream, files: Files, order: str, error: str) -> None:
    await stream.name("object", "next")
    run = await stream.begin(task("spoil", r=order, error=error))
    replies = await rest_of(run)
    if error == "final":
        assert replies[-1].output.error.details == "in the middle"
    else:
        assert run.failed is not None and "ValueError: in the middle" in run.failed
    assert (run.stored, files()) == ({}, {})
    run = await stream.begin(task("make", r="200000"))
    await end_of(run)
    assert len(files()) == len(run.stored) == 1


@pytest.mark.parametrize("order", ["10", f"{LARGE}", "5000000/99991"], ids=["small", "one piece", "pieces"])
@pytest.mark.parametrize("others", [{}, {"s": ""}], ids=["returns nothing", "returns another"])
async def test_a_result_that_is_left_unfinished(
    stream: BatchStream, files: Files, order: str, others: dict[str, str]
) -> None:
    await stream.name("object")
    run = await stream.begin(task("spoil", r=order, error="hidden", **others))
    assert "before these results were sent whole: 'r'" in await failure_of(run)
    assert (run.stored, files()) == ({}, {})


@both_kinds
async def test_cancelled_while_it_waits_for_a_name(stream: BatchStream, files: Files) -> None:
    run = await stream.begin(task("make", r="200000"))
    await stream.asked()
    await run.cancel()
    assert await failure_of(run) == "cancelled"
    following = await stream.begin(task("make", r="300000"))
    await stream.name("object")
    await end_of(following)
    assert following.stored == {"r": stored("object", 300_000)}
    assert set(files()) == {"object"}
    assert stream.asks == 1


@both_kinds
@pytest.mark.parametrize("size", [LARGE, 5_000_000])
async def test_cancelled_while_it_writes(stream: BatchStream, files: Files, size: int) -> None:
    await stream.name("object", "next")
    run = await stream.begin(task("pause", r=f"{size}"))
    assert await run.next() is not None  # the question in the middle
    assert set(files()) == ({"object"} if size > PIECE_BYTES else set())
    await run.cancel()
    assert await failure_of(run) == "cancelled"
    assert (run.stored, files()) == ({}, {})
    following = await stream.begin(task("make", r="200000"))
    await end_of(following)
    assert following.stored == {"r": stored("next", 200_000)}


@both_kinds
async def test_cancelled_at_any_moment(stream: BatchStream, files: Files) -> None:
    """Whatever it is doing then: the agent was told of each file that is there, and each was finished."""
    runs = []
    for number in range(30):
        await stream.name(f"object-{number}")
        runs.append(await stream.begin(task("make", r="3000000/500000")))
        for _ in range(number % 5):
            await stream.begin(give(1))
        await runs[-1].cancel()
    for run in stream.runs.values():
        await rest_of(run)
    left = files()
    assert set(left) == {each.name for run in runs for each in run.stored.values()}
    assert all(len(data) == 3_000_000 for data in left.values())


@both_kinds
async def test_a_stream_that_is_lost_while_it_writes(
    agent: Agent, place: ObjectDirectory, stream: BatchStream, files: Files
) -> None:
    lost = agent.batch_stream()
    await lost.offer(place, LIMIT_BYTES)
    await lost.name("object")
    run = await lost.begin(task("pause", r="5000000"))
    assert await run.next() is not None
    assert set(files()) == {"object"}
    lost.cancel()
    await stream.name("next")
    following = await stream.begin(task("make", r="200000"))
    await end_of(following)
    assert following.stored == {"r": stored("next", 200_000)}
    assert set(files()) == {"next"}


@pytest.mark.parametrize("worker", ["async"], indirect=True)
async def test_a_coroutine_that_gives_up_a_result(stream: BatchStream, files: Files) -> None:
    run = await stream.begin(task("give_up", a="200000", b="300000"))
    await stream.asked()
    await stream.name("one", "two")  # the first of them may come when it is just being given up
    assert "before these results were sent whole: 'a'" in await failure_of(run)
    [name] = files()
    assert run.stored == {"b": stored(name, 300_000)}


async def test_a_name_that_another_file_has(stream: BatchStream, tmp_path: Path, files: Files) -> None:
    (tmp_path / "object").write_bytes(b"another one's")
    await stream.name("object")
    run = await stream.begin(task("make", r="200000"))
    assert "FileExistsError" in await failure_of(run)
    assert files() == {"object": b"another one's"}


async def test_a_directory_that_is_gone(stream: BatchStream, tmp_path: Path) -> None:
    await stream.name("ab/object", "ab/next")
    await end_of(await stream.begin(task("make", r="200000")))
    gone = tmp_path.rename(tmp_path.with_suffix(".gone"))
    run = await stream.begin(task("make", r="200000"))
    assert "FileNotFoundError" in await failure_of(run)
    gone.rename(tmp_path)
    assert results_of(await end_of(await stream.begin(give(1)))) == {"r": some_bytes(1)}


# ------------------------------------------------------------------ inside


class Asking:
    def __init__(self, place: ObjectDirectory) -> None:
        self.asks = 0
        self.place = ObjectPlace(place, LIMIT_BYTES, self.ask)

    def ask(self) -> None:
        self.asks += 1

    def want(self) -> Future[str]:
        name = self.place.name()
        assert isinstance(name, Future)
        return name


@pytest.fixture
def asking(place: ObjectDirectory) -> Asking:
    return Asking(place)


def test_names_come_in_order_and_are_used_once(asking: Asking) -> None:
    asking.place.named(["1", "2"])
    assert [asking.place.name() for _ in range(2)] == ["1", "2"]
    wanted = [asking.want() for _ in range(3)]
    assert asking.asks == 1
    asking.place.named(["3"])
    assert [each.done() for each in wanted] == [True, False, False]
    assert asking.asks == 2
    asking.place.named(["4", "5", "6"])
    assert [each.result(0) for each in wanted] == ["3", "4", "5"]
    assert (asking.place.name(), asking.asks) == ("6", 2)


def test_names_that_grew_old_are_not_used(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("ripieno.worker.attempts.object_place.time", SimpleNamespace(monotonic=lambda: now))
    asking.place.named(["old", "older"])
    now += objects.USE_WITHIN_S
    asking.place.named(["fresh"])
    assert asking.place.name() == "fresh"
    wanted = asking.want()
    assert asking.asks == 1
    asking.place.named(["new"])
    assert wanted.result(0) == "new"


def test_who_does_not_wait_any_more_takes_no_name(asking: Asking) -> None:
    gone, here = asking.want(), asking.want()
    gone.cancel()
    asking.place.named(["1"])
    assert here.result(0) == "1"
    gone = asking.want()
    gone.cancel()
    asking.place.named(["2"])
    assert asking.place.name() == "2"


def test_no_names_end_all_waits_and_the_next_asks_again(asking: Asking) -> None:
    wanted = [asking.want() for _ in range(2)]
    asking.place.named([])
    assert [each.result(0) for each in wanted] == ["", ""]
    asking.want()
    assert asking.asks == 2


def test_after_the_end_there_are_no_names(asking: Asking) -> None:
    wanted = asking.want()
    asking.place.close()
    assert wanted.result(0) == ""
    assert (asking.place.name(), asking.asks) == ("", 1)


def test_names_asked_for_by_many_threads(asking: Asking) -> None:
    """Each gets one, nobody waits for ever, no question is lost."""
    names = iter(range(1_000))
    asking.place._ask = lambda: asking.place.named([str(next(names)), str(next(names))])

    def take(_: int) -> str:
        name = asking.place.name()
        return name if isinstance(name, str) else name.result(10)

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(take, range(400)))
    assert len(set(taken)) == 400
    assert "" not in taken


def test_the_proof_is_read_when_it_is_offered(place: ObjectDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control plane may begin anew before there is a large result; the directory is the same."""
    looked = threading.Event()

    def look(directory: ObjectDirectory) -> bool:
        looked.set()
        return directory == place

    monkeypatch.setattr(objects, "is_writable", look)
    offered = Asking(place).place
    assert looked.wait(10)
    assert offered.is_writable


class LoneAttempt(Attempt):
    """An attempt without a stream, for whoever plays the agent's part inside a test."""

    __slots__ = ("kept_place", "told")

    def __init__(self, place: ObjectPlace) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.kept_place = place
        self.told: list[str] = []
        assert self.conversation.receive_whole(list(requests.whole_task(keys=["a", "b"])))

    @property
    def objects(self) -> ObjectPlace:
        return self.kept_place

    def send(self, replies: object) -> None:
        raise NotImplementedError

    def finish(self, replies: object, failure_value: bytes | None = None) -> None:
        raise NotImplementedError

    def finish_with_result(self, key: str, data: bytes) -> None:
        raise NotImplementedError

    def fail(self, detail: str, failure_value: bytes | None = None) -> None:
        raise NotImplementedError

    def send_stored(self, key: str, stored: StoredObject) -> None:
        self.told.append(key)


def test_a_thread_that_outlives_its_attempt_begins_no_file(asking: Asking, files: Files) -> None:
    attempt = LoneAttempt(asking.place)
    begun, late = ResultWriter(attempt, "a"), ResultWriter(attempt, "b")
    asking.place.named(["begun", "late"])
    blocking(begun.write(bytes(5 * PIECE_BYTES)))
    assert set(files()) == {"begun"}
    attempt.end()
    assert files() == {}
    with pytest.raises(AttemptOver):
        blocking(late.write(bytes(PIECE_BYTES + LARGE)))
    with pytest.raises(AttemptOver):
        blocking(begun.write(bytes(PIECE_BYTES)))
    with pytest.raises(AttemptOver):
        blocking(begun.end())
    assert (attempt.told, files()) == ([], {})


def test_a_cancel_that_comes_while_the_file_is_finished(
    asking: Asking, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = LoneAttempt(asking.place)
    asking.place.named(["object"])
    writer = ResultWriter(attempt, "a")
    blocking(writer.write(bytes(3 * PIECE_BYTES)))
    finish = ObjectFile.finish

    def cancel_first(file: ObjectFile) -> None:
        attempt.cancel()
        finish(file)

    monkeypatch.setattr(ObjectFile, "finish", cancel_first)
    with pytest.raises(TaskCancelled):
        blocking(writer.end())
    assert attempt.told == []
    attempt.end()
    assert files() == {}
