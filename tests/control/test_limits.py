"""What one caller may ask for: refused by the limit's name and value, before anything is done."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from control.replica import BareAgent, Served, serving, until
from ripieno.client import AsyncClient, LimitError, OverloadedError, TaskDefinition
from ripieno.config import Limits
from ripieno.control.calls import arrivals
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc

LIMITS = Limits(
    tasks_per_call=10,
    keys_per_call=30,
    bytes_per_call=100_000,
    options_bytes=100,
    sub_tasks_per_attempt=7,
    ids_per_request=20,
    ids_per_reply=15,
    keys_per_follow=12,
    streams_per_client=2,
    waiters_per_client=2,
    waited_per_client=25,
)

_Request = submitter_service_pb2.CreateSmallTaskRequest
_Filter = submitter_service_pb2.TaskFilter
_PATIENCE_S = 30.0


@pytest_asyncio.fixture
async def channel(limited: Served) -> AsyncIterator[grpc.aio.Channel]:
    async with limited.connect() as channel:
        yield channel


@pytest.fixture
def submitter(channel: grpc.aio.Channel) -> Any:
    return submitter_service_pb2_grpc.SubmitterStub(channel)


@pytest.fixture
def results(channel: grpc.aio.Channel) -> Any:
    return results_pb2_grpc.ResultsStub(channel)


def tasks(count: int, *, first: int = 0, dependencies: int = 0, payload: bytes = b"") -> _Request:
    numbers = range(first, first + count)
    names = [f"d{n}" for n in range(dependencies)]
    return _Request(
        session_id="s",
        task_requests=[
            objects_pb2.TaskRequest(
                id=f"t{n}", expected_output_keys=[f"k{n}"], data_dependencies=names, payload=payload
            )
            for n in numbers
        ],
    )


async def refusal(call: Any) -> str:
    """What a call that is beyond a limit is told."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return refused.value.details() or ""


async def test_a_call_with_too_many_tasks_keys_or_bytes_creates_nothing(submitter: Any, results: Any) -> None:
    assert "tasks_per_call is 10, and this asks for more than 10 tasks" in await refusal(
        submitter.CreateSmallTasks(tasks(11, payload=b"x" * 10))
    )
    assert "keys_per_call is 30, and this asks for 32 " in await refusal(
        submitter.CreateSmallTasks(tasks(2, dependencies=15))
    )
    assert "bytes_per_call is 100,000, and this asks for " in await refusal(
        submitter.CreateSmallTasks(tasks(2, payload=b"x" * 60_000))
    )
    options = objects_pb2.TaskOptions(priority=1, options={"o": "x" * 200})
    options.max_duration.seconds = 1
    assert "options_bytes is 100, and this asks for 201 " in await refusal(
        submitter.CreateSmallTasks(
            _Request(
                session_id="s",
                task_options=options,
                task_requests=[objects_pb2.TaskRequest(id="t", expected_output_keys=["k"])],
            )
        )
    )
    await submitter.CreateSmallTasks(tasks(10))
    listed = [reply async for reply in results.ListTaskIds(results_pb2.ListTaskIdsRequest(session_id="s"))]
    assert [task_id for reply in listed for task_id in reply.task_ids] == [f"t{n}" for n in range(10)]


async def test_a_single_task_cannot_be_cut_and_may_have_long_names(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url, tmp_path / "objects", limits=Limits(bytes_per_call=10_000)) as served:
        await served.world.session()
        async with AsyncClient(served.address) as client:
            session = await client.open_session("s")
            needs = [f"{n:01000}" for n in range(20)]
            submitted = [TaskDefinition(dependencies=needs, id=f"t{n}") for n in range(2)]
            await session.submit_many(submitted)  # each in a call of its own
            assert await session.task_ids() == ["t0", "t1"]


def _stream(request: _Request) -> Callable[[], AsyncIterator[submitter_service_pb2.CreateLargeTaskRequest]]:
    message = submitter_service_pb2.CreateLargeTaskRequest

    async def messages() -> AsyncIterator[submitter_service_pb2.CreateLargeTaskRequest]:
        yield message(init_request=message.InitRequest(session_id=request.session_id))
        for task in request.task_requests:
            header = objects_pb2.TaskRequestHeader(
                id=task.id, expected_output_keys=task.expected_output_keys, data_dependencies=task.data_dependencies
            )
            yield message(init_task=objects_pb2.InitTaskRequest(header=header))
            yield message(task_payload=objects_pb2.DataChunk(data=task.payload))
            yield message(task_payload=objects_pb2.DataChunk(data_complete=True))
        yield message(init_task=objects_pb2.InitTaskRequest(last_task=True))

    return messages


async def test_a_submission_that_is_refused_was_read_as_what_it_is(
    submitter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after a large one waits for a moment, whatever became of it."""
    sizes: list[int] = []
    arrived = arrivals.Arrival.arrived

    def watched(self: arrivals.Arrival, size: int) -> None:
        sizes.append(size)
        arrived(self, size)

    monkeypatch.setattr(arrivals.Arrival, "arrived", watched)
    request = tasks(2, payload=b"x" * 60_000)
    assert "bytes_per_call" in await refusal(submitter.CreateSmallTasks(request))
    assert sizes == [request.ByteSize()]


async def test_a_stream_is_weighed_as_it_comes(submitter: Any) -> None:
    assert "tasks_per_call is 10, and this asks for 11 " in await refusal(
        submitter.CreateLargeTasks(_stream(tasks(11))())
    )
    assert "keys_per_call is 30, and this asks for 32 " in await refusal(
        submitter.CreateLargeTasks(_stream(tasks(2, dependencies=15))())
    )
    # Payloads are not counted: they are inline only while there are few of them.
    await submitter.CreateLargeTasks(_stream(tasks(10, payload=b"x" * 60_000))())


async def test_keys_are_counted_before_they_are_looked_at(submitter: Any) -> None:
    """Looking at a million of them would keep everybody else waiting."""
    request = tasks(1)
    request.task_requests[0].data_dependencies.extend([""] * 31)
    for call in (submitter.CreateSmallTasks(request), submitter.CreateLargeTasks(_stream(request)())):
        assert "keys_per_call is 30, and this asks for 32 " in await refusal(call)


async def test_requests_and_replies_with_too_many_ids_are_refused(submitter: Any, results: Any) -> None:
    many = [f"t{n}" for n in range(21)]
    by_id, by_session = _Filter(task=_Filter.IdsRequest(ids=many)), _Filter(session=_Filter.IdsRequest(ids=many))
    for call in (
        submitter.ListTasks(by_id),
        submitter.CountTasks(by_session),
        submitter.CancelTasks(by_session),
        submitter.WaitForCompletion(submitter_service_pb2.WaitRequest(filter=by_id)),
        submitter.ListSessions(submitter_service_pb2.SessionFilter(sessions=many)),
        submitter.GetTaskStatus(submitter_service_pb2.GetTaskStatusRequest(task_ids=many)),
        submitter.GetResultStatus(submitter_service_pb2.GetResultStatusRequest(session_id="s", result_ids=many)),
        results.Read(results_pb2.ReadRequest(session_id="s", keys=many)).read(),
    ):
        assert "ids_per_request is 20, and this asks for 21 " in await refusal(call)
    await submitter.CreateSmallTasks(tasks(10))
    await submitter.CreateSmallTasks(tasks(6, first=10))
    session = _Filter(session=_Filter.IdsRequest(ids=["s"]))
    assert "ids_per_reply is 15, and this asks for 16 " in await refusal(submitter.ListTasks(session))


async def test_one_client_has_so_many_streams_and_waits(submitter: Any, results: Any) -> None:
    await submitter.CreateSmallTasks(tasks(1))

    async def follow() -> Any:
        call = results.Follow()
        await call.write(results_pb2.FollowRequest(session_id="s", keys=["k0"]))
        return call

    wait = objects_pb2.ResultRequest(session="s", key="k0")
    waiting = [asyncio.ensure_future(submitter.WaitForAvailability(wait)) for _ in range(2)]
    following = [await follow() for _ in range(2)]
    await _until_refused(lambda: submitter.WaitForAvailability(wait), "waiters_per_client is 2, and this asks for 3 ")
    await _until_refused(
        lambda: results.Read(results_pb2.ReadRequest(session_id="s", keys=["k0"])).read(),
        "streams_per_client is 2, and this asks for 3 ",
    )
    for call in (*waiting, *following):
        call.cancel()


async def _until_refused(call: Callable[[], Any], said: str) -> None:
    """Try until those before it have arrived, and it is refused."""
    detail = ""
    async with asyncio.timeout(10):
        while not detail:
            try:
                async with asyncio.timeout(0.2):
                    await call()
            except TimeoutError:
                continue
            except grpc.aio.AioRpcError as error:
                detail = (error.details() or "") if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else ""
    assert said in detail


async def test_the_sdk_cuts_until_it_is_within_limits_of_a_call(limited: Served) -> None:
    async with AsyncClient(limited.address, patience=5) as client:
        session = await client.session()
        sent = await session.submit_many([TaskDefinition(b"x" * 9_000, expected_outputs=f"k{n}") for n in range(45)])
        ids = [task.id for task in sent]
        assert await session.task_ids() == ids
        assert len(await session.status(ids)) == 45
        assert len(await session.result_status([f"k{n}" for n in range(45)])) == 45
        await session.cancel_tasks(ids)
        assert sum((await session.wait(ids, timeout=5)).values()) == 45
        with pytest.raises(LimitError, match="keys_per_call is 30"):
            await session.submit(b"", dependencies=[f"k{n}" for n in range(45)])


async def test_agents_are_told_what_attempts_may_ask_for(channel: grpc.aio.Channel) -> None:
    agent = BareAgent(channel)
    await agent.hello()
    welcome = agent.said[0].welcome
    assert (welcome.sub_tasks_per_attempt, welcome.options_bytes) == (7, 100)
    agent.leave()


async def test_a_stream_follows_so_many_keys_at_a_time(submitter: Any, results: Any) -> None:
    """Keys count that are not answered yet; those that are make room for others on the same stream."""
    await submitter.CreateSmallTasks(tasks(10))
    await submitter.CreateSmallTasks(tasks(10, first=10))

    at_once = results.Follow()
    await at_once.write(_ask(*range(13)))
    assert "keys_per_follow is 12, and this asks for 13 " in await refusal(at_once.read())

    call = results.Follow()
    await call.write(_ask(*range(12)))
    await submitter.CancelTasks(_Filter(task=_Filter.IdsRequest(ids=["t0", "t1"])))
    answered: set[str] = set()
    async with asyncio.timeout(_PATIENCE_S):
        while len(answered) < 2:
            answered |= {each.key for each in (await call.read()).finished}
    assert answered == {"k0", "k1"}
    await call.write(_ask(12, 13))
    await call.write(_ask(14))
    assert "keys_per_follow is 12, and this asks for 13 " in await refusal(call.read())


async def test_what_one_client_waits_for_is_counted_over_all_its_calls(submitter: Any, results: Any) -> None:
    await submitter.CreateSmallTasks(tasks(10))
    await submitter.CreateSmallTasks(tasks(10, first=10))
    first = results.Follow()
    await first.write(_ask(*range(12)))
    wait = submitter.WaitForCompletion(_wait_for(10))
    second = results.Follow()
    # The answer about the key that nobody knows tells that the other one, and the calls before it, are counted.
    await second.write(results_pb2.FollowRequest(session_id="s", keys=["k12", "unknown"]))
    async with asyncio.timeout(_PATIENCE_S):
        assert [each.key for each in (await second.read()).finished] == ["unknown"]
    assert (
        "waited_per_client is 25, and this asks for 26 tasks and results that one client waits for; wait for the others"
    ) in await refusal(submitter.WaitForCompletion(_wait_for(3)))
    await second.write(_ask(13, 14, 15))
    assert "waited_per_client is 25, and this asks for 26 " in await refusal(second.read())
    await submitter.CancelTasks(_Filter(task=_Filter.IdsRequest(ids=[f"t{n}" for n in range(10)])))
    await wait
    third = results.Follow()  # there is room again
    await third.write(_ask(*range(10)))
    async with asyncio.timeout(_PATIENCE_S):
        assert (await third.read()).finished
    first.cancel(), third.cancel()


def _ask(*numbers: int) -> results_pb2.FollowRequest:
    return results_pb2.FollowRequest(session_id="s", keys=[f"k{n}" for n in numbers])


def _wait_for(count: int) -> submitter_service_pb2.WaitRequest:
    return submitter_service_pb2.WaitRequest(
        filter=_Filter(task=_Filter.IdsRequest(ids=[f"t{n}" for n in range(count)]))
    )


@asynccontextmanager
async def _no_room(submitter: Any, answers: list[bool]) -> AsyncIterator[None]:
    """All room for large submissions is taken by a stream that does not go on.

    Args:
        answers: For each submission that asked for room, whether it got it.
    """
    message = submitter_service_pb2.CreateLargeTaskRequest
    header = objects_pb2.TaskRequestHeader(id="slow", expected_output_keys=["slow"])
    before = answers.count(True)
    call = submitter.CreateLargeTasks()
    await call.write(message(init_request=message.InitRequest(session_id="s")))
    await call.write(message(init_task=objects_pb2.InitTaskRequest(header=header)))
    await until(lambda: answers.count(True) > before)
    try:
        yield
    finally:
        call.cancel()


async def test_the_sdk_sends_again_what_finds_no_room(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its patience lasts; then its error says that there was no room, and nothing was created."""
    monkeypatch.setattr(arrivals, "_PATIENCE_S", 0.05)
    answers: list[bool] = []
    hold = arrivals.Arrivals.hold

    async def watched(self: arrivals.Arrivals, size: int, *, large: bool) -> None:
        try:
            await hold(self, size, large=large)
        except OverloadedError:
            answers.append(False)
            raise
        answers.append(True)

    monkeypatch.setattr(arrivals.Arrivals, "hold", watched)
    limits = Limits(submission_memory_bytes=512 * 1024)
    async with serving(database_url, tmp_path / "objects", limits=limits) as served, served.connect() as channel:
        await served.world.session()
        submitter: Any = submitter_service_pb2_grpc.SubmitterStub(channel)
        payload = b"x" * 90_000
        async with AsyncClient(served.address, patience=_PATIENCE_S) as client:
            session = await client.open_session("s")
            async with _no_room(submitter, answers):
                sending = asyncio.create_task(session.submit(payload, id="patient"))
                await until(lambda: answers.count(False) >= 2)
                assert not sending.done()
            async with asyncio.timeout(_PATIENCE_S):
                await sending
        async with AsyncClient(served.address, patience=0.2) as client:
            session = await client.open_session("s")
            async with _no_room(submitter, answers):
                with pytest.raises(OverloadedError, match=r"had no room for 0\.2 s"):
                    await session.submit(payload, id="impatient")
            assert await session.task_ids() == ["patient"]


@pytest.mark.parametrize(
    ("memory_bytes", "count", "kept"),
    [(Limits().submission_memory_bytes, 150, 139), (512 * 1024, 10, 1)],
    ids=["8 MiB of a stream", "a quarter of the room"],
)
async def test_payloads_beyond_what_a_stream_may_keep_in_memory_go_to_the_object_store(
    database_url: str, tmp_path: Path, memory_bytes: int, count: int, kept: int
) -> None:
    """However little room there is, a stream comes through: it is never told to come again for ever."""
    limits = Limits(submission_memory_bytes=memory_bytes)
    async with serving(database_url, tmp_path / "objects", limits=limits) as served, served.connect() as channel:
        await served.world.session()
        submitter: Any = submitter_service_pb2_grpc.SubmitterStub(channel)
        await submitter.CreateLargeTasks(_stream(tasks(count, payload=b"x" * 60_000))())
        rows = await served.world.database.fetch(
            "select count(data) as inline, count(object) as stored from blobs where size = 60000"
        )
    assert [dict(row) for row in rows] == [{"inline": kept, "stored": count - kept}]
