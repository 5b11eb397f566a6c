import asyncio
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from ripieno.client import (
    AlreadyExistsError,
    AsyncClient,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    SessionCancelledError,
    TaskDefinition,
    TaskOptions,
    UnavailableError,
)
from ripieno.client.asynchronous.async_session import AsyncSession
from unit.client.cluster import CHUNK_BYTES, FakeCluster


@pytest_asyncio.fixture
async def session(client: AsyncClient) -> AsyncSession:
    return await client.session(priority=7)


async def test_one_task_makes_one_result_named_after_it(session: AsyncSession, cluster: FakeCluster) -> None:
    task = await session.submit(b"21")
    assert cluster.tasks[task.id].outputs == [task.id]
    assert cluster.tasks[task.id].options is None
    assert task.expected_outputs == (task.id,)
    assert await task.result(timeout=5) == b"21"


async def test_many_tasks_travel_a_thousand_to_a_call_in_their_order(
    session: AsyncSession, cluster: FakeCluster
) -> None:
    tasks = await session.submit_many(b"%d" % n for n in range(2_500))
    assert sorted(cluster.batches) == [500, 1_000, 1_000]
    assert [cluster.tasks[task.id].payload for task in tasks] == [b"%d" % n for n in range(2_500)]


async def test_calls_are_bounded_by_their_bytes(session: AsyncSession, cluster: FakeCluster) -> None:
    keys = [f"{n:01000d}" for n in range(3_000)]  # 3 MB of names
    await session.submit_many(TaskDefinition(b"", expected_outputs=key) for key in keys)
    assert max(cluster.batches) < 3_000
    assert max(cluster.batches) * 1_000 <= 2 * 1024 * 1024
    assert sum(cluster.batches) == 3_000


async def test_four_calls_are_under_way_at_most(session: AsyncSession, cluster: FakeCluster) -> None:
    cluster.gate = asyncio.Event()
    submission = asyncio.create_task(session.submit_many(itertools.repeat(b"", 10_000)))
    await cluster.until(lambda: cluster.in_flight == 4)
    cluster.gate.set()
    assert len(await submission) == 10_000
    assert cluster.most_in_flight == 4


async def test_nothing_to_submit_is_no_call(session: AsyncSession, cluster: FakeCluster) -> None:
    assert await session.submit_many([]) == []
    assert cluster.calls["CreateSmallTasks"] == cluster.calls["CreateLargeTasks"] == 0


async def test_a_definition_says_it_all(session: AsyncSession, cluster: FakeCluster) -> None:
    first = await session.submit(b"a")
    second = await session.submit(TaskDefinition(b"b", ["x", "y"], [first, "elsewhere"], "second"))
    third = await session.submit(b"c", expected_outputs="z", dependencies="x", id="third")
    assert second.expected_outputs == ("x", "y")
    assert cluster.tasks["second"].outputs == ["x", "y"]
    assert cluster.tasks["second"].dependencies == [first.id, "elsewhere"]
    assert (third.id, third.key) == ("third", "z")
    assert cluster.tasks["third"].dependencies == ["x"]
    assert await second.result("y") == b"b"


async def test_a_task_with_several_results_stands_for_none_of_them(session: AsyncSession) -> None:
    task = await session.submit(b"", expected_outputs=["x", "y"])
    with pytest.raises(ValueError, match="name one of x, y"):
        await task.result()
    with pytest.raises(ValueError, match="name one of x, y"):
        await session.submit(b"", dependencies=task)


async def test_a_definition_is_not_given_in_parts_too(session: AsyncSession) -> None:
    with pytest.raises(TypeError, match="itself"):
        await session.submit(TaskDefinition(b""), id="t")


async def test_options_of_a_call_replace_the_sessions_as_a_whole(session: AsyncSession, cluster: FakeCluster) -> None:
    task = await session.submit(b"", task_options=TaskOptions(priority=9, max_duration=1.5, partition="gpu"))
    options = cluster.tasks[task.id].options
    assert options is not None
    assert (options.priority, options.max_retries) == (9, 3)
    assert (options.max_duration.seconds, options.max_duration.nanos) == (1, 500_000_000)
    assert dict(options.options) == {"partition": "gpu"}


@pytest.mark.parametrize(
    "options", [TaskOptions(priority=100), TaskOptions(max_retries=-1), TaskOptions(max_duration=0)]
)
async def test_options_out_of_range_are_refused_before_anything_is_sent(
    session: AsyncSession, cluster: FakeCluster, options: TaskOptions
) -> None:
    with pytest.raises(InvalidRequestError, match="task_options"):
        await session.submit(b"", task_options=options)
    assert not cluster.tasks


@pytest.mark.parametrize("payload", ["text", 7, None])
async def test_only_bytes_are_a_payload(session: AsyncSession, cluster: FakeCluster, payload: object) -> None:
    with pytest.raises(TypeError, match="a payload is bytes"):
        await session.submit_many([b"", payload])  # type: ignore[list-item]
    assert not cluster.tasks


async def test_bytes_of_every_kind_are_a_payload(session: AsyncSession, cluster: FakeCluster) -> None:
    tasks = await session.submit_many([bytearray(b"ab"), memoryview(b"cd")])
    assert [cluster.tasks[task.id].payload for task in tasks] == [b"ab", b"cd"]


# ---------------------------------------------------------------- large payloads


@pytest.mark.parametrize("size", [CHUNK_BYTES, CHUNK_BYTES + 1, 10 * CHUNK_BYTES])
async def test_long_payloads_go_by_stream(session: AsyncSession, cluster: FakeCluster, size: int) -> None:
    payload = bytes(itertools.islice(itertools.cycle(range(251)), size))
    task = await session.submit(payload)
    accepted = cluster.tasks[task.id]
    assert (accepted.size, accepted.sha256) == (size, hashlib.sha256(payload).hexdigest())
    assert cluster.calls["CreateLargeTasks"] == (size > CHUNK_BYTES)


async def test_files_and_pieces_go_by_stream(session: AsyncSession, cluster: FakeCluster, tmp_path: Path) -> None:
    payload = bytes(range(256)) * 9_000  # longer than one reading
    path = tmp_path / "payload"
    path.write_bytes(payload)
    (tmp_path / "empty").touch()
    pieces = (payload[start : start + 777] for start in range(0, len(payload), 777))
    tasks = await session.submit_many([path, tmp_path / "empty", pieces, [b"ab", b"", b"c"], b"small"])
    digests = [cluster.tasks[task.id].sha256 for task in tasks]
    assert cluster.tasks[tasks[1].id].size == 0
    assert digests[0] == digests[2] == hashlib.sha256(payload).hexdigest()
    assert digests[3] == hashlib.sha256(b"abc").hexdigest()
    assert cluster.calls["CreateLargeTasks"] == 1


async def test_a_file_that_is_missing_is_the_callers_error(session: AsyncSession, cluster: FakeCluster) -> None:
    with pytest.raises(FileNotFoundError):
        await session.submit(Path("nowhere"))
    assert not cluster.tasks


async def test_an_iterable_that_fails_is_the_callers_error(session: AsyncSession, cluster: FakeCluster) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * 5_000
        raise ZeroDivisionError("in the middle")

    with pytest.raises(ZeroDivisionError, match="in the middle"):
        await session.submit(pieces())
    assert not cluster.tasks


async def test_pieces_that_are_not_bytes_are_named(session: AsyncSession) -> None:
    with pytest.raises(TypeError, match="pieces are bytes, not str"):
        await session.submit(["ab"])  # type: ignore[list-item]


async def test_a_stream_that_is_refused_early_says_why(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session(id="gone")
    del cluster.sessions["gone"]
    for _ in range(5):
        with pytest.raises(NotFoundError, match="no session 'gone'"):
            await session.submit(bytes(20_000_000))


# ---------------------------------------------------------------- retries and refusals


@pytest.mark.parametrize("payload", [b"x", b"x" * 5_000])
async def test_a_submission_is_sent_again_when_no_server_answers(
    session: AsyncSession, cluster: FakeCluster, payload: bytes
) -> None:
    for method in ("CreateSmallTasks", "CreateLargeTasks"):
        cluster.faults.before[method] = [grpc.StatusCode.UNAVAILABLE]
        cluster.faults.after[method] = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED]
    task = await session.submit(payload)
    assert list(cluster.tasks) == [task.id]
    assert cluster.calls["CreateSmallTasks"] + cluster.calls["CreateLargeTasks"] == 4


async def test_a_file_is_read_again_when_the_stream_breaks(
    session: AsyncSession, cluster: FakeCluster, tmp_path: Path
) -> None:
    path = tmp_path / "payload"
    path.write_bytes(b"y" * 50_000)
    cluster.faults.cut_streams_after["CreateLargeTasks"] = [10]
    task = await session.submit(path)
    assert cluster.tasks[task.id].sha256 == hashlib.sha256(b"y" * 50_000).hexdigest()


async def test_an_iterator_cannot_be_read_again(session: AsyncSession, cluster: FakeCluster) -> None:
    cluster.faults.cut_streams_after["CreateLargeTasks"] = [10]
    with pytest.raises(OutcomeUnknownError, match="cannot be read twice"):
        await session.submit(iter([b"z" * 50_000]))


async def test_ids_that_are_taken_are_named(session: AsyncSession, cluster: FakeCluster) -> None:
    await session.submit(b"a", id="t")
    assert (await session.submit(b"a", id="t")).id == "t"
    with pytest.raises(AlreadyExistsError, match="already taken: \\['t'\\]") as caught:
        await session.submit(b"other", id="t")
    assert caught.value.detail == str(caught.value)
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)


async def test_a_cancelled_session_takes_no_more(session: AsyncSession) -> None:
    await session.cancel()
    with pytest.raises(SessionCancelledError, match="cancelled"):
        await session.submit(b"")


async def test_a_failure_says_how_many_tasks_exist(session: AsyncSession, cluster: FakeCluster) -> None:
    await session.submit(b"other", id="t2500")
    definitions = (TaskDefinition(b"", id=f"t{n}") for n in range(20_000))
    with pytest.raises(AlreadyExistsError) as caught:
        await session.submit_many(definitions)
    (note,) = caught.value.__notes__
    assert note == f"{len(cluster.tasks) - 1} tasks of the same submission had been accepted"
    assert len(cluster.tasks) < 10_000


async def test_tasks_that_fail_while_they_are_made_end_the_submission(session: AsyncSession) -> None:
    def made() -> Iterator[bytes]:
        yield b""
        raise ZeroDivisionError("made badly")

    with pytest.raises(ZeroDivisionError, match="made badly"):
        await session.submit_many(made())


async def test_patience_has_an_end(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.address, patience=0.2) as client:
        session = await client.session()
        await session.submit(b"")
        await cluster.stop()
        with pytest.raises(
            UnavailableError, match=f"could not submit tasks: {cluster.address} did not answer"
        ) as error:
            await session.submit(b"")
    assert error.value.retry_is_safe


async def test_a_server_that_comes_back_gets_the_tasks(cluster: FakeCluster, client: AsyncClient) -> None:
    session = await client.session()
    await cluster.stop()
    submission = asyncio.create_task(session.submit(b"late"))
    await cluster.start(cluster.address)
    task = await submission
    assert await task.result(timeout=5) == b"late"
