import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from ripieno.client import (
    AsyncClient,
    AsyncSession,
    AsyncTask,
    NotFoundError,
    TaskCancelledError,
    TaskFailedError,
    TaskStatus,
    UnavailableError,
)
from ripieno.client.reading import following
from unit.client.cluster import PUSHED_BYTES, FakeCluster, failure

LARGE = bytes(range(256)) * 40  # 10 KiB: ten chunks and a bit, too long to be pushed


#: How a client may come by results: each with what the server has.
WAYS = {
    "read": {"reads": True},
    "streamed": {"reads": False},
    "in place": {"reads": True},
    "waited for": {"pushes": False},
}


@pytest_asyncio.fixture(params=WAYS)
async def any_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FakeCluster]:
    """Results have to come out the same, whether the server pushes them or not, and whatever way the bytes take."""
    cluster = FakeCluster(**WAYS[request.param], objects=tmp_path if request.param == "in place" else None)
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest_asyncio.fixture
async def session(any_cluster: FakeCluster) -> AsyncIterator[AsyncSession]:
    async with AsyncClient(any_cluster.address, patience=5) as client:
        yield await client.session()


async def test_every_result_comes_once_with_its_task(session: AsyncSession) -> None:
    tasks = await session.submit_many(b"%d" % n for n in range(300))
    results = [result async for result in session.results(tasks + tasks[:5], timeout=5)]
    assert {result.task.id: result.data for result in results} == {task.id: b"%d" % n for n, task in enumerate(tasks)}
    assert len(results) == 300


async def test_results_come_as_they_finish(any_cluster: FakeCluster, session: AsyncSession) -> None:
    any_cluster.echo = False
    first, second = await session.submit_many([b"", b""])
    results = session.results([first, second], timeout=5)
    await any_cluster.finish(session.id, second.id, b"2")
    assert (await anext(results)).task is second
    await any_cluster.finish(session.id, first.id, b"1")
    assert (await anext(results)).task is first
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def test_results_are_asked_for_by_key_too(session: AsyncSession) -> None:
    await session.submit(b"v", expected_outputs=["x", "y"])
    results = [result async for result in session.results(["x", "y", "x"], timeout=5)]
    assert {(result.key, result.task, result.data) for result in results} == {("x", None, b"v"), ("y", None, b"v")}


async def test_a_task_stands_for_all_of_its_results(session: AsyncSession) -> None:
    task = await session.submit(b"v", expected_outputs=["x", "y"])
    assert {result.key async for result in session.results([task], timeout=5)} == {"x", "y"}


async def test_no_results_are_no_call(session: AsyncSession, any_cluster: FakeCluster) -> None:
    nothing: list[str] = []
    assert [result async for result in session.results(nothing)] == []
    assert any_cluster.calls["Follow"] == 0


async def test_an_aborted_result_is_yielded_with_its_story(any_cluster: FakeCluster, session: AsyncSession) -> None:
    any_cluster.echo = False
    good, bad = await session.submit_many([b"", b""])
    await any_cluster.finish(session.id, good.id, b"1")
    await any_cluster.finish(session.id, bad.id, failure(bad.id, "no memory", "no luck"))
    results = {result.key: result async for result in session.results([good, bad], timeout=5)}
    assert results[good.id].error is None
    error = results[bad.id].error
    assert isinstance(error, TaskFailedError)
    assert (error.key, error.task_id) == (bad.id, bad.id)
    assert [(one.status, one.detail) for one in error.attempts] == [
        (TaskStatus.ERROR, "no memory"),
        (TaskStatus.ERROR, "no luck"),
    ]
    assert str(error) == (
        f"result {bad.id!r} will never exist: task {bad.id!r} ended after 2 attempts, the last one ERROR: no luck"
    )
    with pytest.raises(TaskFailedError, match="no luck"):
        _ = results[bad.id].data
    with pytest.raises(TaskFailedError, match="no luck"):
        await bad.result(timeout=5)


async def test_a_cancelled_task_has_an_error_of_its_own(any_cluster: FakeCluster, session: AsyncSession) -> None:
    any_cluster.echo = False
    task = await session.submit(b"")
    await task.cancel()
    with pytest.raises(TaskCancelledError, match="was cancelled: cancelled by a user"):
        await task.result(timeout=5)


async def test_a_key_that_nobody_announced_is_not_found(session: AsyncSession) -> None:
    with pytest.raises(NotFoundError, match="no task has announced result 'nothing'"):
        await session.result("nothing", timeout=5)
    (result,) = [result async for result in session.results(["nothing"], timeout=5)]
    assert isinstance(result.error, NotFoundError)


async def test_a_wait_for_results_has_an_end(any_cluster: FakeCluster, session: AsyncSession) -> None:
    any_cluster.echo = False
    task = await session.submit(b"")
    with pytest.raises(TimeoutError, match=f"result '{task.id}' is not here after 0.05 s"):
        await task.result(timeout=0.05)
    with pytest.raises(TimeoutError, match=r"not all results are final after 0\.05 s"):
        await anext(session.results([task], timeout=0.05))
    await any_cluster.finish(session.id, task.id, b"at last")
    assert await task.result(timeout=5) == b"at last"


async def test_large_results_are_fetched(any_cluster: FakeCluster, session: AsyncSession) -> None:
    any_cluster.echo = False
    tasks = await session.submit_many([b""] * 7)
    for task in tasks[:6]:
        await any_cluster.finish(session.id, task.id, LARGE)
    await any_cluster.finish(session.id, tasks[6].id, b"small")
    results = {result.task: result.data async for result in session.results(tasks, timeout=5)}
    assert results == dict.fromkeys(tasks[:6], LARGE) | {tasks[6]: b"small"}
    assert await tasks[0].result(timeout=5) == LARGE
    assert [piece async for piece in session.result_chunks(tasks[0])] != []
    if any_cluster.directory is not None:
        assert any_cluster.calls["Read"] == any_cluster.calls["TryGetResultStream"] == 0


async def test_results_can_be_followed_without_their_data(any_cluster: FakeCluster, session: AsyncSession) -> None:
    task = await session.submit(b"abc")
    (result,) = [result async for result in session.results([task], with_data=False, timeout=5)]
    assert result.error is None
    assert not result.has_data
    assert result.size in (3, None)
    with pytest.raises(ValueError, match="followed without its data"):
        _ = result.data
    assert any_cluster.calls["TryGetResultStream"] == any_cluster.calls["Read"] == 0


async def test_an_empty_result_is_a_result(session: AsyncSession) -> None:
    task = await session.submit(b"")
    (result,) = [result async for result in session.results([task], timeout=5)]
    assert (result.data, result.size, await task.result(timeout=5)) == (b"", 0, b"")


async def test_single_results_are_waited_for_by_many_at_a_time(any_cluster: FakeCluster, session: AsyncSession) -> None:
    tasks = await session.submit_many(b"%d" % n for n in range(200))
    got = await asyncio.gather(*(task.result(timeout=5) for task in tasks), tasks[0].result(timeout=5))
    assert got == [b"%d" % n for n in range(200)] + [b"0"]
    assert any_cluster.calls["Follow"] <= 1


async def test_an_unknown_session_is_not_found(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session(id="gone")
    del cluster.sessions["gone"]
    with pytest.raises(NotFoundError, match="no session 'gone'"):
        await session.result("x")
    with pytest.raises(NotFoundError, match="no session 'gone'"):
        await anext(session.results(["x"]))


# ---------------------------------------------------------------- broken connections


async def test_results_come_once_though_the_stream_breaks(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    tasks = await session.submit_many([b"x"] * 1_000)
    cluster.faults.cut_streams_after["Follow"] = [0, 2, 3]
    keys = [result.key async for result in session.results(tasks, timeout=10)]
    assert sorted(keys) == sorted(task.id for task in tasks)
    assert cluster.calls["Follow"] == 4
    assert [len(asked) for asked in cluster.asked] == [1_000, 1_000, 800, 500]


async def test_a_single_result_is_asked_for_again(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    task = await session.submit(b"x")
    cluster.faults.cut_streams_after["Follow"] = [0]
    cluster.faults.before["Follow"] = [grpc.StatusCode.UNAVAILABLE]
    assert await task.result(timeout=5) == b"x"


async def test_an_idle_stream_is_given_up_and_another_opened(
    client: AsyncClient, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "IDLE_S", 0.01)
    session = await client.session()
    first, second = await session.submit_many([b"1", b"2"])
    assert await first.result(timeout=5) == b"1"
    await cluster.until(lambda: cluster.streams_ended == 1)
    assert await second.result(timeout=5) == b"2"
    assert cluster.calls["Follow"] == 2
    assert not caplog.records


async def test_a_stream_that_ends_too_early_is_opened_again(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    task = await session.submit(b"1")
    cluster.faults.cut_streams_after["Follow"] = [cluster.END, cluster.END]
    assert [result.data async for result in session.results([task], timeout=5)] == [b"1"]
    assert cluster.calls["Follow"] == 3


async def test_those_who_wait_learn_that_no_server_answers(cluster: FakeCluster) -> None:
    cluster.echo = False
    async with AsyncClient(cluster.address, patience=0.2) as client:
        session = await client.session()
        tasks = await session.submit_many([b""] * 3)
        waits = [asyncio.create_task(task.result()) for task in tasks]
        await cluster.until(lambda: sum(map(len, cluster.asked)) == 3)
        await cluster.stop()
        for failed in await asyncio.gather(*waits, return_exceptions=True):
            assert isinstance(failed, UnavailableError)
            assert "could not follow results" in failed.detail


async def test_those_who_wait_learn_that_the_client_was_closed(cluster: FakeCluster) -> None:
    cluster.echo = False
    async with AsyncClient(cluster.address) as client:
        session = await client.session()
        wait = asyncio.create_task((await session.submit(b"")).result())
        await cluster.until(lambda: bool(cluster.asked))
    with pytest.raises(RuntimeError, match="client was closed"):
        await wait


async def test_a_wait_that_begins_as_the_client_is_closed_ends(cluster: FakeCluster) -> None:
    cluster.echo = False
    async with AsyncClient(cluster.address) as client:
        session = await client.session()
        task = await session.submit(b"")
        waits = [asyncio.create_task(task.result())]
        await asyncio.sleep(0)  # it has asked, and the stream that would answer it has not begun
    waits += [asyncio.create_task(task.result()) for _ in range(2)]
    done, left = await asyncio.wait(waits, timeout=5)
    assert not left
    for wait in done:
        with pytest.raises(RuntimeError, match=r"client (is|was) closed"):
            wait.result()


async def test_single_results_share_a_stream_and_what_gathered_travels_together(
    client: AsyncClient, cluster: FakeCluster
) -> None:
    session = await client.session()
    cluster.echo = False
    tasks = await session.submit_many([b""] * 500)

    async def result(task: AsyncTask) -> bytes:
        return await task.result(timeout=5)

    waits = [asyncio.create_task(result(task)) for task in tasks]
    await cluster.until(lambda: sum(map(len, cluster.asked)) == 500)
    assert len(cluster.asked) <= 2
    for task in tasks:
        await cluster.finish(session.id, task.id, b"x")
    assert await asyncio.gather(*waits) == [b"x"] * 500
    assert cluster.calls["Follow"] == 1


async def test_a_caller_that_gives_up_does_not_disturb_the_others(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    cluster.echo = False
    task = await session.submit(b"")
    patient, hasty = asyncio.create_task(task.result()), asyncio.create_task(task.result())
    await cluster.until(lambda: bool(cluster.asked))
    hasty.cancel()
    await cluster.finish(session.id, task.id, b"x")
    assert await patient == b"x"
    assert sum(map(len, cluster.asked)) == 1


async def test_the_pushed_limit_is_the_servers(cluster: FakeCluster, client: AsyncClient) -> None:
    session = await client.session()
    cluster.echo = False
    small, large = await session.submit_many([b"", b""])
    await cluster.finish(session.id, small.id, bytes(PUSHED_BYTES))
    await cluster.finish(session.id, large.id, bytes(PUSHED_BYTES + 1))
    assert [len(await task.result(timeout=5)) for task in (small, large)] == [PUSHED_BYTES, PUSHED_BYTES + 1]
    assert cluster.read == [([large.id], 0)]
    assert cluster.calls["TryGetResultStream"] == 0
