"""The Results service of a replica, over what lies in a real database and a real object store."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from ripieno.client import AsyncClient, TaskFailedError
from ripieno.config import ControlSettings
from ripieno.control.server import Replica
from ripieno.domain.data import StoredObject
from ripieno.domain.outcomes import Failure
from ripieno.objects import PIECE_BYTES, is_readable
from ripieno.store.cluster.objects import ObjectStore
from ripieno.wire.outcomes import directory_from_wire, stored_from_wire
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc
from store.world import World, done, failed, task

LARGE = bytes(range(251)) * (2 * PIECE_BYTES // 251 + 1)
INLINE = bytes(range(256)) * 8
CONTENTS = {"large": LARGE, "inline": INLINE, "empty": b"", "hollow": b""}
_CALL_S = 20.0

ReplyT = TypeVar("ReplyT")


async def write(objects: ObjectStore, data: bytes) -> StoredObject:
    async with await objects.writer() as writer:
        await writer.write(data)
    return writer.stored


@pytest_asyncio.fixture
async def large(world: World, objects: ObjectStore) -> StoredObject:
    """The object of ``large``; by then there are results of every kind."""
    tasks = [*(task(key, key) for key in CONTENTS), task("bad", "bad")]
    claimed = dict(zip([*CONTENTS, "bad"], await world.begin(*tasks), strict=True))
    stored, hollow = await write(objects, LARGE), await write(objects, b"")
    await world.commit(
        done(claimed["large"], {"large": stored}),
        done(claimed["inline"], {"inline": INLINE}),
        done(claimed["empty"], {"empty": b""}),
        done(claimed["hollow"], {"hollow": hollow}),
        failed(claimed["bad"], "no luck", Failure.OUTPUT),
    )
    await world.submit(task("open", "open", needs=["named"]))
    return stored


Serve = Callable[[], Awaitable[str]]


@pytest_asyncio.fixture
async def serve(world: World, objects: ObjectStore, database_url: str) -> AsyncIterator[Serve]:
    """Start a replica; its address."""
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = ControlSettings(database_url, listen="127.0.0.1:0", drain_s=0)
    async with asyncio.TaskGroup() as group:

        async def start() -> str:
            replica = Replica(settings, world.database, objects)
            group.create_task(replica.run(stop, address.set_result))
            return str(await address)

        yield start
        stop.set()


@pytest_asyncio.fixture
async def address(serve: Serve, large: StoredObject) -> str:
    """A replica that serves the results."""
    assert large.size == len(LARGE)
    return await serve()


@pytest_asyncio.fixture
async def results(address: str) -> AsyncIterator["results_pb2_grpc.ResultsAsyncStub"]:
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield results_pb2_grpc.ResultsStub(channel)


async def replies(
    results: "results_pb2_grpc.ResultsAsyncStub", keys: Sequence[str], offset: int = 0, session_id: str = "s"
) -> AsyncIterator[results_pb2.ReadReply]:
    request = results_pb2.ReadRequest(session_id=session_id, keys=keys, offset=offset)
    async for reply in results.Read(request, timeout=_CALL_S):
        yield reply


async def read(
    results: "results_pb2_grpc.ResultsAsyncStub", keys: Sequence[str], offset: int = 0, session_id: str = "s"
) -> list[bytes | objects_pb2.TaskError]:
    """Result by result; nothing may be left over."""
    whole: list[bytes | objects_pb2.TaskError] = []
    data = b""
    async for reply in replies(results, keys, offset, session_id):
        assert len(reply.data) <= PIECE_BYTES
        data += reply.data
        if reply.HasField("error"):
            assert not data and not reply.complete
            whole.append(reply.error)
        elif reply.complete:
            whole.append(data)
            data = b""
    assert data == b""
    return whole


async def until_it_fails(stream: AsyncIterable[ReplyT]) -> tuple[list[ReplyT], grpc.StatusCode | None]:
    """The replies before a call's error, and its code."""
    got = []
    try:
        async for reply in stream:
            got.append(reply)  # noqa: PERF401 - those before the error are wanted
    except grpc.aio.AioRpcError as error:
        return got, error.code()
    return got, None


async def test_results_come_in_the_order_of_their_keys(results: "results_pb2_grpc.ResultsAsyncStub") -> None:
    keys = ["inline", "large", "empty", "hollow", "large", "inline"]
    assert await read(results, keys) == [CONTENTS[key] for key in keys]
    assert await read(results, []) == []
    many = ["inline", "empty", "hollow"] * 50
    assert await read(results, many) == [CONTENTS[key] for key in many]


SIZE = len(LARGE)
OFFSETS = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, SIZE - 1, SIZE, SIZE + 1, (1 << 63) - 1]


@pytest.mark.parametrize("key", ["large", "inline", "empty", "hollow"])
async def test_an_offset_is_left_out_of_the_first(results: "results_pb2_grpc.ResultsAsyncStub", key: str) -> None:
    """Beyond the end nothing is left of it, which is said."""
    for offset in OFFSETS:
        assert await read(results, [key, "large", "inline"], offset) == [CONTENTS[key][offset:], LARGE, INLINE]


async def test_why_an_aborted_one_has_no_bytes(results: "results_pb2_grpc.ResultsAsyncStub") -> None:
    first, error, last = await read(results, ["inline", "bad", "large"])
    assert (first, last) == (INLINE, LARGE)
    assert isinstance(error, objects_pb2.TaskError)
    assert (error.task_id, [each.detail for each in error.errors]) == ("bad", ["no luck"])
    # What would be left out of it is not left out of the next one.
    assert (await read(results, ["bad", "inline"], 7))[1] == INLINE


@pytest.mark.parametrize(
    ("keys", "offset", "code", "detail"),
    [
        (["unknown"], 0, "NOT_FOUND", "result 'unknown' does not exist"),
        (["named"], 0, "NOT_FOUND", "result 'named' does not exist"),
        (["open"], 0, "FAILED_PRECONDITION", "result 'open' is not completed: it is CREATED, owned by task 'open'"),
        (["large"], -1, "INVALID_ARGUMENT", "offset: is -1"),
        (["large", "a\0b"], 0, "INVALID_ARGUMENT", "contains a NUL character"),
        ([""], 0, "INVALID_ARGUMENT", "is blank"),
    ],
)
async def test_what_is_refused(
    results: "results_pb2_grpc.ResultsAsyncStub", keys: list[str], offset: int, code: str, detail: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(results, keys, offset)
    assert (caught.value.code().name, detail in (caught.value.details() or "")) == (code, True), caught.value


@pytest.mark.parametrize(("session_id", "code"), [("other", "NOT_FOUND"), (" ", "INVALID_ARGUMENT")])
async def test_no_such_session(results: "results_pb2_grpc.ResultsAsyncStub", session_id: str, code: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(results, ["large"], session_id=session_id)
    assert caught.value.code().name == code


async def test_those_before_a_refused_one_come_first(results: "results_pb2_grpc.ResultsAsyncStub") -> None:
    got, code = await until_it_fails(replies(results, ["large", "unknown", "inline"]))
    assert (b"".join(reply.data for reply in got), code) == (LARGE, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize("left", [None, 0, PIECE_BYTES, PIECE_BYTES + 1, len(LARGE) - 1])
async def test_an_object_that_is_lost_is_never_complete(
    results: "results_pb2_grpc.ResultsAsyncStub", address: str, large: StoredObject, tmp_path: Path, left: int | None
) -> None:
    path = tmp_path / "objects" / large.name
    if left is None:
        path.unlink()
    else:
        os.truncate(path, left)
    got, code = await until_it_fails(replies(results, ["large"]))
    assert (any(reply.complete for reply in got), code) == (False, grpc.StatusCode.UNAVAILABLE)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: submitter_service_pb2_grpc.SubmitterAsyncStub = submitter_service_pb2_grpc.SubmitterStub(channel)
        chunks, code = await until_it_fails(
            stub.TryGetResultStream(objects_pb2.ResultRequest(session="s", key="large"), timeout=_CALL_S)
        )
    assert (any(each.result.data_complete for each in chunks), code) == (False, grpc.StatusCode.UNAVAILABLE)


# ------------------------------------------------------------------ where they lie


async def follow(
    results: "results_pb2_grpc.ResultsAsyncStub", *, bare: bool = False
) -> tuple[dict[str, results_pb2.FinishedResult], list[results_pb2.FollowReply]]:
    """What Follow says of the results that are completed, by key."""
    call = results.Follow(timeout=_CALL_S)
    await call.write(results_pb2.FollowRequest(session_id="s", keys=list(CONTENTS), without_data=bare))
    await call.done_writing()
    got = [reply async for reply in call]
    return {one.key: one for reply in got for one in reply.finished}, got


@pytest.mark.parametrize("bare", [False, True])
async def test_follow_says_where_large_results_lie_in_a_directory(
    results: "results_pb2_grpc.ResultsAsyncStub", objects: ObjectStore, large: StoredObject, tmp_path: Path, bare: bool
) -> None:
    finished, got = await follow(results, bare=bare)
    assert finished["inline"].data == (b"" if bare else INLINE)
    assert [finished["large"].size, finished["hollow"].size] == [SIZE, 0]
    assert {key for key, one in finished.items() if one.HasField("object")} == (
        set() if objects.directory is None else {"large", "hollow"}
    )
    for reply in got:
        directory = directory_from_wire(reply.objects)
        named = [stored_from_wire(one.object) for one in reply.finished if one.HasField("object")]
        assert (directory is not None) == bool(named)
        if directory is not None:
            assert directory.path == str(tmp_path / "objects")
            assert is_readable(directory)
    if objects.directory is not None:
        assert stored_from_wire(finished["large"].object) == large


async def test_a_directory_that_takes_no_proof_is_served_all_the_same(
    serve: Serve, large: StoredObject, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be full."""

    def no_room(address: str) -> None:
        raise OSError(28, f"no space left for {address}")

    monkeypatch.setattr(objects, "prove", no_room)
    async with grpc.aio.insecure_channel(await serve()) as channel:
        stub: results_pb2_grpc.ResultsAsyncStub = results_pb2_grpc.ResultsStub(channel)
        finished, _ = await follow(stub)
        assert finished["large"].size == large.size
        assert not finished["large"].HasField("object")
        assert await read(stub, ["large"]) == [LARGE]


async def test_our_own_client(address: str) -> None:
    """By whatever way."""
    async with AsyncClient(address, patience=5) as client:
        session = await client.open_session("s")
        assert {one.key: one.data async for one in session.results(list(CONTENTS), timeout=_CALL_S)} == CONTENTS
        assert {key: await session.result(key, timeout=_CALL_S) for key in CONTENTS} == CONTENTS
        with pytest.raises(TaskFailedError, match="no luck"):
            await session.result("bad", timeout=_CALL_S)
