"""Results that clients create, upload, import and delete, and tasks that take them as payloads: over gRPC."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

import ripieno.control.results.uploads as receiving
from control.replica import BareAgent, Served, serving
from ripieno.client import AsyncClient
from ripieno.config import Limits
from ripieno.domain.data import StoredObject
from ripieno.wire.protos.armonik_v2 import (
    objects_pb2,
    result_status_pb2,
    submitter_service_pb2,
    submitter_service_pb2_grpc,
)
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from store.world import World, task

MIB = 1024 * 1024
SOON_S = 30.0


class Caller:
    """The stubs of one replica, and what tests say over them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.results: Any = results_pb2_grpc.ResultsStub(channel)
        self.tasks: Any = tasks_pb2_grpc.TasksStub(channel)
        self.submitter: Any = submitter_service_pb2_grpc.SubmitterStub(channel)

    async def create(self, *data: bytes | None, session_id: str = "s") -> list[str]:
        entries = [results_pb2.CreateResultsRequest.Entry(name="a name", data=each) for each in data]
        reply = await self.results.Create(results_pb2.CreateResultsRequest(session_id=session_id, entries=entries))
        return [entry.key for entry in reply.entries]

    async def upload(
        self, key: str, chunks: Iterable[bytes], *, says_so: bool = True, **begin: Any
    ) -> list[results_pb2.UploadReply]:
        """Upload to the end; all replies."""
        call = self.results.Upload(timeout=SOON_S)
        try:
            await call.write(results_pb2.UploadRequest(begin=results_pb2.UploadBegin(key=key, **begin)))
            for chunk in chunks:
                await call.write(results_pb2.UploadRequest(chunk=chunk))
            if says_so:
                await call.write(results_pb2.UploadRequest(complete=True))
            await call.done_writing()
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            pass  # the call has ended; reading says why
        return [reply async for reply in call]

    async def begun(self, **begin: Any) -> results_pb2.UploadReply:
        """Begin an upload, and hear what is said to that; nothing is written that might meet the end of the call."""
        call = self.results.Upload(timeout=SOON_S)
        await call.write(results_pb2.UploadRequest(begin=results_pb2.UploadBegin(**begin)))
        reply: results_pb2.UploadReply = await call.read()
        return reply

    async def read(self, key: str, session_id: str = "s") -> bytes:
        request = results_pb2.ReadRequest(session_id=session_id, keys=[key])
        return b"".join([reply.data async for reply in self.results.Read(request, timeout=SOON_S)])

    async def status(self, *keys: str) -> list[str]:
        request = submitter_service_pb2.GetResultStatusRequest(session_id="s", result_ids=keys)
        reply = await self.submitter.GetResultStatus(request)
        return [result_status_pb2.ResultStatus.Name(each.status).rpartition("_")[2] for each in reply.id_statuses]


@pytest_asyncio.fixture
async def caller(served: Served) -> AsyncIterator[Caller]:
    async with served.connect() as channel:
        yield Caller(channel)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "PART_BYTES", 4 * MIB)


def data_of(size: int) -> bytes:
    return hashlib.shake_128(b"data").digest(size)


def pieces(data: bytes, size: int = 300_000) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def test_results_with_and_without_data(caller: Caller, world: World) -> None:
    large = data_of(100_000)
    created, empty, small, big = await caller.create(None, b"", b"small", large)
    assert await caller.status(created, empty, small, big) == ["CREATED", "COMPLETED", "COMPLETED", "COMPLETED"]
    assert [await caller.read(key) for key in (empty, small, big)] == [b"", b"small", large]
    assert isinstance(await world.data(big), StoredObject)
    assert await caller.create() == []


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3 * MIB, 9 * MIB])
@pytest.mark.usefixtures("small_parts")
async def test_an_upload_of_any_size(caller: Caller, served: Served, world: World, size: int) -> None:
    [key] = await caller.create(None)
    data = data_of(size)
    replies = await caller.upload(key, pieces(data), size=size, sha256=hashlib.sha256(data).digest())
    assert [reply.complete for reply in replies] == [False] * (len(replies) - 1) + [True]
    assert (replies[-1].offset, replies[-1].sha256) == (size, hashlib.sha256(data).digest())
    assert await caller.read(key) == data
    assert await world.rows("select upload_id from uploads") == []
    assert await world.rows("select name from staged_objects") == []
    files = [path for path in served.objects.rglob("*") if path.is_file() and not path.name.startswith("proof")]
    assert len(files) == (size > 65_536)


@pytest.mark.usefixtures("small_parts")
async def test_a_broken_upload_is_continued_through_another_replica(
    caller: Caller, served: Served, world: World, database_url: str
) -> None:
    [key] = await caller.create(None)
    data = data_of(11 * MIB)
    call = caller.results.Upload()
    await call.write(results_pb2.UploadRequest(begin=results_pb2.UploadBegin(session_id="s", key=key)))
    upload_id = (await call.read()).upload_id
    for piece in pieces(data[: 6 * MIB]):
        await call.write(results_pb2.UploadRequest(chunk=piece))
    offset = (await call.read()).offset
    assert 4 * MIB <= offset <= 6 * MIB
    call.cancel()
    async with serving(database_url, served.objects) as other, other.connect() as channel:
        again = Caller(channel)
        told = await again.results.QueryUpload(results_pb2.UploadId(upload_id=upload_id))
        assert (told.upload_id, told.offset) == (upload_id, offset)
        code, detail = await refused(again.upload(key, [b""], upload_id=upload_id, offset=1))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert f"send begin.offset {offset}" in detail
        replies = await again.upload(key, pieces(data[offset:]), upload_id=upload_id, offset=offset, size=len(data))
        assert replies[-1].complete
        assert await again.read(key) == data
        code, _ = await refused(again.results.QueryUpload(results_pb2.UploadId(upload_id=upload_id)))
        assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [5, 100_000, 9 * MIB])
async def test_other_bytes_than_announced_are_refused_and_may_be_sent_again(
    caller: Caller, world: World, size: int
) -> None:
    [key] = await caller.create(None)
    data = data_of(size)
    right, wrong = hashlib.sha256(data), hashlib.sha256(b"wrong")
    code, detail = await refused(caller.upload(key, pieces(data), sha256=wrong.digest()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert right.hexdigest() in detail and wrong.hexdigest() in detail
    code, detail = await refused(caller.upload(key, pieces(data), size=size + 1))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and f"{size + 1} is announced, and {size} bytes came" in detail
    code, detail = await refused(caller.upload(key, pieces(data), size=size - 1))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and f"{size - 1} is announced" in detail
    assert await caller.status(key) == ["CREATED"]
    await caller.upload(key, pieces(data), sha256=right.digest())
    assert await caller.read(key) == data


async def test_a_stream_that_just_ends_is_whole_only_if_it_was_announced(caller: Caller) -> None:
    data = data_of(100_000)
    for begin in ({"size": len(data)}, {"sha256": hashlib.sha256(data).digest()}):
        [key] = await caller.create(None)
        assert (await caller.upload(key, pieces(data), says_so=False, **begin))[-1].complete
        assert await caller.read(key) == data
    [key] = await caller.create(None)
    code, detail = await refused(caller.upload(key, pieces(data), says_so=False))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and detail.startswith("complete: is missing")
    assert await caller.status(key) == ["CREATED"]


async def test_a_completed_result_keeps_its_data(caller: Caller, world: World) -> None:
    for size in (5, 100_000):
        [key] = await caller.create(None)
        data = data_of(size)
        await caller.upload(key, pieces(data))
        assert (await caller.upload(key, pieces(data)))[-1].complete
        code, detail = await refused(caller.upload(key, [b"other"]))
        assert code is grpc.StatusCode.FAILED_PRECONDITION and "data of a result never changes" in detail
        code, _ = await refused(caller.upload(key, pieces(data_of(size + 1))))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert await world.rows("select name from staged_objects") == []
        assert await caller.read(key) == data


async def test_what_takes_no_upload(caller: Caller, world: World) -> None:
    await world.submit(task("a", "ka"))
    [key] = await caller.create(None)
    for arguments, code, words in (
        ({"key": "ka", "session_id": "s"}, grpc.StatusCode.FAILED_PRECONDITION, "is an output of task 'a'"),
        ({"key": "unknown", "session_id": "s"}, grpc.StatusCode.NOT_FOUND, "'unknown' does not exist"),
        ({"key": "ka"}, grpc.StatusCode.INVALID_ARGUMENT, "session_id: is empty, and key 'ka' was not made by Create"),
        ({"key": key, "session_id": "none"}, grpc.StatusCode.NOT_FOUND, "session 'none' does not exist"),
        ({"key": key.replace("0", "f", 1)}, grpc.StatusCode.NOT_FOUND, "does not exist"),
        ({"key": key, "sha256": b"short"}, grpc.StatusCode.INVALID_ARGUMENT, "sha256: has 5 bytes"),
        ({"key": key, "size": -1}, grpc.StatusCode.INVALID_ARGUMENT, "size: is -1"),
        ({"key": key, "offset": 5}, grpc.StatusCode.INVALID_ARGUMENT, "offset: is set, but begin.upload_id is not"),
        ({"key": key, "upload_id": "x"}, grpc.StatusCode.INVALID_ARGUMENT, "'x' is not a UUID"),
    ):
        answer = await refused(caller.begun(**arguments))
        assert answer[0] is code and words in answer[1], answer
    call = caller.results.Upload()
    await call.write(results_pb2.UploadRequest(chunk=b""))
    assert (await refused(call.read()))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_upload_wakes_whoever_waits(caller: Caller, served: Served) -> None:
    [key] = await caller.create(None)
    async with served.connect() as other:
        agent = BareAgent(other)
        await agent.hello(credit=4)
        tasks = [tasks_pb2.SubmitTasksRequest.NewTask(id="a", payload_key=key, expected_output_keys=["ka"])]
        await caller.tasks.Submit(tasks_pb2.SubmitTasksRequest(session_id="s", tasks=tasks))
        follow = caller.results.Follow()
        await follow.write(results_pb2.FollowRequest(session_id="s", keys=[key, "ka"]))
        await caller.upload(key, [b"the payload"])
        finished = (await follow.read()).finished
        assert [(each.key, each.data) for each in finished] == [(key, b"the payload")]
        await agent.complete(1, lambda key: key.encode())
        [made] = (await follow.read()).finished
        assert (made.key, made.data) == ("ka", b"ka")
        follow.cancel()
        plain = [message.plain for message in agent.said if message.plain.task_nos]
        assert [list(each.payloads) for each in plain] == [[b"the payload"]]
        agent.leave()


async def test_submit_makes_ids_and_takes_options_for_each_task(caller: Caller, world: World) -> None:
    def options(priority: int, partition: str) -> objects_pb2.TaskOptions:
        made = objects_pb2.TaskOptions(max_retries=1, priority=priority, options={"partition": partition})
        made.max_duration.seconds = 5
        return made

    new = tasks_pb2.SubmitTasksRequest.NewTask
    tasks = [
        new(payload=b"1", expected_output_keys=["k1"]),
        new(id="mine", payload=data_of(100_000), data_dependencies=["k1"], options=options(7, "gpu")),
        new(id="plain", options=options(9, "cpu")),
    ]
    request = tasks_pb2.SubmitTasksRequest(session_id="s", tasks=tasks)
    ids = list((await caller.tasks.Submit(request)).task_ids)
    assert ids[1:] == ["mine", "plain"]
    assert len(ids[0]) == 36
    rows = await world.rows(
        "select t.id, s.priority, s.partition from tasks t join states s using (task_no) order by task_no"
    )
    assert rows == [(ids[0], 50, ""), ("mine", 7, "gpu"), ("plain", 9, "cpu")]
    request.tasks[0].id = ids[0]
    assert list((await caller.tasks.Submit(request)).task_ids) == ids
    request.tasks[2].options.priority = 10
    code, _ = await refused(caller.tasks.Submit(request))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert await world.rows("select count(*) from tasks") == [(3,)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda request: request.tasks.clear(), "tasks: is empty"),
        (lambda request: request.tasks.add(id="a"), "tasks[1].id: 'a' stands twice"),
        (lambda request: setattr(request.tasks[0], "payload_key", " "), "tasks[0].payload_key"),
        (lambda request: setattr(request.tasks[0], "payload_key", "ka"), "is an output of the same task"),
        (lambda request: request.tasks[0].options.SetInParent(), "tasks[0].options.max_duration: is not set"),
        (lambda request: setattr(request, "session_id", ""), "session_id"),
    ],
)
async def test_what_submit_refuses(
    caller: Caller, world: World, change: Callable[[tasks_pb2.SubmitTasksRequest], object], words: str
) -> None:
    request = tasks_pb2.SubmitTasksRequest(session_id="s")
    request.tasks.add(id="a", expected_output_keys=["ka"])
    change(request)
    code, detail = await refused(caller.tasks.Submit(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and words in detail
    assert await world.rows("select id from tasks") == []


async def test_imported_objects_are_linked_where_they_lie(caller: Caller, served: Served, world: World) -> None:
    data = data_of(3 * MIB)
    (served.objects / "import" / "deep").mkdir(parents=True)
    (served.objects / "import" / "deep" / "one.bin").write_bytes(data)
    (served.objects / "import" / "two").write_bytes(b"2")
    one, two, three = await caller.create(None, None, None)

    def request(*entries: tuple[str, str]) -> results_pb2.ImportResultsRequest:
        made = results_pb2.ImportResultsRequest(session_id="s")
        for key, name in entries:
            made.entries.add(key=key, object=name)
        return made

    both = request((one, "import/deep/one.bin"), (two, "import/two"))
    for _ in range(2):
        reply = await caller.results.Import(both)
        assert [(each.key, each.size) for each in reply.entries] == [(one, len(data)), (two, 1)]
        assert reply.entries[0].sha256 == hashlib.sha256(data).digest()
    assert await caller.read(one) == data
    code, detail = await refused(caller.results.Import(request((three, "import/two"))))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and "is the data of another result" in detail
    code, _ = await refused(caller.results.Import(request((three, "import/none"))))
    assert code is grpc.StatusCode.NOT_FOUND
    for name in ("two", "/import/two", "import/../two", "import/deep/../../two", "import/", "import//two", "import/./two",
                 "import/a\0b", "import/ä", "import"):  # fmt: skip
        code, detail = await refused(caller.results.Import(request((three, name))))
        assert (code, "may not be imported" in detail) == (grpc.StatusCode.INVALID_ARGUMENT, True), name
    assert await caller.status(three) == ["CREATED"]


async def test_deleted_data_is_said_to_be_deleted(caller: Caller, served: Served) -> None:
    key, other = await caller.create(b"data", data_of(100_000))
    request = results_pb2.DeleteDataRequest(session_id="s", keys=[key, other, "unknown", "\0"])
    assert list((await caller.results.DeleteData(request)).deleted_keys) == [key, other]
    assert list((await caller.results.DeleteData(request)).deleted_keys) == []
    read = results_pb2.ReadRequest(session_id="s", keys=[key])
    [answer] = [reply async for reply in caller.results.Read(read)]
    assert [error.detail for error in answer.error.errors] == ["its data was deleted"]
    follow = caller.results.Follow()
    await follow.write(results_pb2.FollowRequest(session_id="s", keys=[key]))
    await follow.done_writing()
    [finished] = (await follow.read()).finished
    assert [error.detail for error in finished.error.errors] == ["its data was deleted"]
    [reply] = [
        each async for each in caller.submitter.TryGetResultStream(objects_pb2.ResultRequest(session="s", key=key))
    ]
    assert [error.detail for error in reply.error.errors] == ["its data was deleted"]
    waited = await caller.submitter.WaitForAvailability(objects_pb2.ResultRequest(session="s", key=other))
    assert [error.detail for error in waited.error.errors] == ["its data was deleted"]


async def test_limits_hold(database_url: str, tmp_path: Path) -> None:
    limits = Limits(bytes_per_session=64 * 100, tasks_per_call=3)
    async with serving(database_url, tmp_path / "objects", limits=limits) as served, served.connect() as channel:
        await served.world.session()
        caller = Caller(channel)
        code, detail = await refused(caller.create(b"", b"", b"", b""))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "tasks_per_call" in detail
        code, detail = await refused(caller.create(bytes(10_000)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "bytes_per_session" in detail
        [key] = await caller.create(None)
        code, detail = await refused(caller.upload(key, [bytes(100_000)]))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "bytes_per_session" in detail
        assert await caller.status(key) == ["CREATED"]


@pytest.mark.usefixtures("small_parts")
async def test_the_client_sdk_goes_on_through_another_replica(database_url: str, tmp_path: Path) -> None:
    """What was safe is not sent again, and all of it arrives."""
    data = data_of(20 * MIB)
    loop = asyncio.get_running_loop()
    async with (
        serving(database_url, tmp_path / "objects") as one,
        serving(database_url, tmp_path / "objects") as other,
    ):
        await one.world.session()

        class Source:
            """Pieces that can be read again; the first reading ends the replica in its middle."""

            readings = 0

            def __iter__(self) -> Iterator[bytes]:
                self.readings += 1
                for place, piece in enumerate(pieces(data)):
                    if self.readings == 1 and place == len(data) // 300_000 // 2:
                        loop.call_soon_threadsafe(one.stop.set)
                    yield piece

        source, told = Source(), list[int]()
        async with AsyncClient(f"{one.address},{other.address}", patience=SOON_S) as client:
            session = await client.open_session("s")
            stored = await session.put(source, name="in parts", progress=told.append)
            assert await session.result(stored, timeout=SOON_S) == data
        assert source.readings == 2
        assert told == sorted(set(told)) and told[-1] == len(data)
        async with other.connect() as channel:
            assert await Caller(channel).read(stored.key) == data
        assert await other.world.rows("select upload_id from uploads") == []
