import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest

from ripieno.client import (
    AlreadyExistsError,
    AsyncClient,
    InvalidRequestError,
    InvariantError,
    LimitError,
    NotFoundError,
    PermissionDeniedError,
    ResultStatus,
    RipienoError,
    TaskDefinition,
    TaskOptions,
    TaskStatus,
    UnauthenticatedError,
    UnavailableError,
)
from ripieno.client.reading import fetching
from ripieno.client.terms.errors import FROM_CODE, from_rpc
from ripieno.wire.codes import CODES
from unit.client.cluster import CHUNK_BYTES, FakeCluster, failure, serving_alike


async def test_a_session_is_made_with_its_options(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session(
        priority=5, max_retries=0, max_duration=timedelta(minutes=2), partition="gpu", options={"a": "b"}, id="mine"
    )
    assert session.id == "mine"
    assert session.task_options == TaskOptions(5, 0, timedelta(minutes=2), "gpu", {"a": "b"})
    made = cluster.sessions["mine"]
    assert (made.priority, made.max_retries, made.max_duration.seconds) == (5, 0, 120)
    assert dict(made.options) == {"a": "b", "partition": "gpu"}


async def test_session_ids_are_unique_unless_given(client: AsyncClient) -> None:
    assert (await client.session()).id != (await client.session()).id


async def test_a_session_id_is_taken_once(client: AsyncClient) -> None:
    await client.session(id="mine")
    with pytest.raises(AlreadyExistsError, match="session 'mine' exists already"):
        await client.session(id="mine")


@pytest.mark.parametrize("given", [None, "mine"])
async def test_a_session_that_was_made_by_an_earlier_try(
    client: AsyncClient, cluster: FakeCluster, given: str | None
) -> None:
    cluster.faults.after["CreateSession"] = [grpc.StatusCode.UNAVAILABLE]
    if given is None:
        session = await client.session()
        assert list(cluster.sessions) == [session.id]
    else:
        # With an id of the caller's own it may just as well have been there before.
        with pytest.raises(AlreadyExistsError):
            await client.session(id=given)


@pytest.mark.parametrize("limit", [0, -1.5, float("inf"), float("nan"), 1e18])
async def test_a_time_limit_that_is_none_is_refused(client: AsyncClient, limit: float) -> None:
    with pytest.raises(InvalidRequestError, match="max_duration"):
        await client.session(max_duration=limit)


async def test_a_session_is_opened_by_its_id(client: AsyncClient) -> None:
    made = await client.session(id="mine")
    await made.submit(b"x", id="t")
    opened = await client.open_session("mine")
    assert (opened.id, opened.task_options) == ("mine", None)
    assert await opened.task_ids() == ["t"]
    assert await opened.result("t", timeout=5) == b"x"
    with pytest.raises(NotFoundError, match="there is no session 'other'"):
        await client.open_session("other")


async def test_waiting_counts_how_tasks_ended(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    cluster.echo = False
    tasks = await session.submit_many([b""] * 3)
    with pytest.raises(TimeoutError, match=r"not all tasks are final after 0\.05 s"):
        await session.wait(timeout=0.05)
    for task in tasks[:2]:
        await cluster.finish(session.id, task.id, b"")
    await cluster.finish(session.id, tasks[2].id, failure(tasks[2].id, "no"))
    ended = {TaskStatus.COMPLETED: 2, TaskStatus.ERROR: 1}
    assert await session.wait(timeout=5) == await session.wait(tasks, timeout=5) == await session.counts() == ended
    assert await session.wait(tasks[0], timeout=5) == {TaskStatus.COMPLETED: 1}
    assert await session.wait([]) == {}


async def test_thousands_of_ids_travel_in_several_calls(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    tasks = await session.submit_many([b""] * 5_000)
    assert await session.wait(tasks, timeout=5) == {TaskStatus.COMPLETED: 5_000}
    assert await session.status(tasks) == dict.fromkeys((task.id for task in tasks), TaskStatus.COMPLETED)
    assert cluster.calls["WaitForCompletion"] == cluster.calls["GetTaskStatus"] == 3


async def test_statuses_leave_out_what_is_unknown(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    done = await session.submit(b"")
    cluster.echo = False
    waiting = await session.submit(TaskDefinition(b"", ["x", "y"]))
    assert await waiting.status() is TaskStatus.SUBMITTED
    assert await session.status([done, "nobody"]) == {done.id: TaskStatus.COMPLETED}
    assert await session.status() == {done.id: TaskStatus.COMPLETED, waiting.id: TaskStatus.SUBMITTED}
    assert await session.result_status([done, "x", "nothing"]) == {
        done.id: ResultStatus.COMPLETED,
        "x": ResultStatus.CREATED,
    }


async def test_a_task_that_is_gone_is_not_found(client: AsyncClient, cluster: FakeCluster) -> None:
    task = await (await client.session()).submit(b"", id="t")
    cluster.tasks.clear()
    with pytest.raises(NotFoundError, match="there is no task 't'"):
        await task.status()


async def test_cancelling_leaves_alone_what_is_final(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    done = await session.submit(b"")
    cluster.echo = False
    first, second = await session.submit_many([b"", b""])
    await session.cancel_tasks([done, first])
    await first.cancel()
    assert await session.counts() == {TaskStatus.COMPLETED: 1, TaskStatus.CANCELLED: 1, TaskStatus.SUBMITTED: 1}
    await session.cancel()
    await session.cancel()
    assert await second.status() is TaskStatus.CANCELLED


# ---------------------------------------------------------------- downloads


async def test_a_result_is_read_in_pieces(
    client: AsyncClient, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a server that has no Read: there a piece is a message."""
    cluster.reads = False
    monkeypatch.setattr(fetching, "_PIECE_BYTES", 3 * CHUNK_BYTES)
    session = await client.session()
    cluster.results[session.id, "large"] = data = bytes(range(256)) * 40
    cluster.results[session.id, "small"] = b"abc"
    cluster.faults.cut_streams_after["TryGetResultStream"] = [3, 0, 7]
    pieces = [piece async for piece in session.result_chunks("large", timeout=5)]
    assert b"".join(pieces) == data
    # Of what a broken stream has brought whole pieces are kept, the rest comes with the next one.
    assert [len(piece) for piece in pieces] == [3 * CHUNK_BYTES] * 3 + [len(data) - 9 * CHUNK_BYTES]
    assert cluster.calls["TryGetResultStream"] == 4
    assert [chunk async for chunk in session.result_chunks("small", timeout=5)] == [b"abc"]


@pytest.mark.parametrize("method", ["Read", "TryGetResultStream"])
async def test_a_result_is_downloaded_whole_or_not_at_all(
    client: AsyncClient, cluster: FakeCluster, tmp_path: Path, method: str
) -> None:
    cluster.reads = method == "Read"
    session = await client.session()
    cluster.results[session.id, "large"] = data = bytes(range(256)) * 40
    path = tmp_path / "result"
    path.write_bytes(b"old")
    assert await session.download("large", path, timeout=5) == len(data)
    assert path.read_bytes() == data

    cluster.faults.before[method] = [grpc.StatusCode.PERMISSION_DENIED]
    with pytest.raises(PermissionDeniedError):
        await session.download("large", path, timeout=5)
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.UNAUTHENTICATED, UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDeniedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LimitError),
        (grpc.StatusCode.INTERNAL, InvariantError),
        (grpc.StatusCode.UNIMPLEMENTED, RipienoError),
    ],
)
async def test_no_error_of_grpc_comes_through(
    client: AsyncClient, cluster: FakeCluster, code: grpc.StatusCode, kind: type[RipienoError]
) -> None:
    session = await client.session()
    cluster.faults.before["CountTasks"] = [code]
    with pytest.raises(kind, match=f"injected {code.name}") as caught:
        await session.counts()
    assert type(caught.value) is kind


def test_a_stream_that_broke_in_our_own_hands_is_no_bug_of_the_server() -> None:
    """gRPC calls it INTERNAL, as a server would; seen once in a hundred streams that are refused early."""
    nothing = grpc.aio.Metadata()
    ours = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "Internal error from Core")
    assert isinstance(from_rpc(ours), UnavailableError)
    theirs = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "a bug")
    assert isinstance(from_rpc(theirs), InvariantError)


def test_every_code_that_a_server_sends_is_read() -> None:
    assert set(CODES.values()) <= set(FROM_CODE)


async def test_reads_are_repeated_and_said_to_be(
    client: AsyncClient, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    session = await client.session()
    cluster.faults.before["CountTasks"] = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]
    with caplog.at_level(logging.WARNING, "ripieno.client"):
        assert await session.counts() == {}
    assert [record.getMessage() for record in caplog.records] == [
        f"count tasks: {cluster.address} is not available (injected UNAVAILABLE); calls are repeated for up to 5 s",
        f"{cluster.address} is available again",
    ]


async def test_an_outage_is_told_once_however_many_calls_notice(
    client: AsyncClient, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    session = await client.session()
    cluster.faults.before["CountTasks"] = [grpc.StatusCode.UNAVAILABLE] * 150
    with caplog.at_level(logging.WARNING, "ripieno.client"):
        await asyncio.gather(*(session.counts() for _ in range(100)))
        await session.counts()
    assert len([record for record in caplog.records if "is not available" in record.getMessage()]) == 1
    assert len([record for record in caplog.records if "is available again" in record.getMessage()]) == 1


async def test_any_of_several_replicas_will_do(cluster: FakeCluster) -> None:
    """One that is not there is passed over, and one that goes away in the middle is left for another."""
    async with serving_alike(cluster) as other, AsyncClient(f"127.0.0.1:1,{cluster.address},{other}") as client:
        session = await client.session()
        cluster.echo = False
        task = await session.submit(b"")
        waiting = asyncio.create_task(task.result(timeout=20))
        await cluster.until(lambda: [task.id] in cluster.asked)
        await cluster.stop()
        await cluster.finish(session.id, task.id, b"done")
        assert await waiting == b"done"
        assert await session.counts() == {TaskStatus.COMPLETED: 1}


async def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIPIENO_ADDRESS", "127.0.0.1:1")
    async with AsyncClient(patience=0) as client:
        assert client.address == "127.0.0.1:1"
        with pytest.raises(UnavailableError, match=r"could not create a session: 127\.0\.0\.1:1 did not answer"):
            await client.session()


async def test_the_default_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RIPIENO_ADDRESS", "RIPIENO_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # where no contexts are
    assert AsyncClient().address == "127.0.0.1:5001"


async def test_a_client_is_used_while_it_is_open(cluster: FakeCluster) -> None:
    client = AsyncClient(cluster.address)
    with pytest.raises(RuntimeError, match="not open"):
        await client.session()


async def test_an_error_of_the_block_passes_through_as_it_is(cluster: FakeCluster) -> None:
    cluster.echo = False
    waits = []

    async def block() -> None:
        async with AsyncClient(cluster.address) as client:
            session = await client.session()
            waits.append(asyncio.create_task((await session.submit(b"")).result()))
            await cluster.until(lambda: bool(cluster.asked))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    with pytest.raises(RuntimeError, match="closed"):
        await waits[0]
