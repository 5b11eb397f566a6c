"""Downloads go on at the pace of their clients, whatever others hold."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest_asyncio
import structlog

from control.replica import Served, until
from ripieno.control.results.downloads import pieces
from ripieno.control.results.room import Room
from ripieno.store.reading.lookup import fetch_results
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc
from store.world import World, task

_SOON_S = 30.0
_MIB = 1024 * 1024


@pytest_asyncio.fixture
async def results(world: World) -> list[str]:
    keys = [f"k{place}" for place in range(20)]
    await world.submit(*(task(f"t{key}", key) for key in keys))
    await world.run(**{f"t{key}": key for key in keys})
    return keys


async def test_a_read_brings_a_result_at_a_time_where_there_is_no_room(world: World, results: list[str]) -> None:
    number = await world.number()
    assert await fetch_results(world.database, [(number, key) for key in results], 0) == [b"k0"]
    assert await fetch_results(world.database, [], 0) == []


async def test_results_are_read_although_others_hold_all_room(
    served: Served, channel: grpc.aio.Channel, results: list[str]
) -> None:
    downloads = served.replica._results._downloads
    with downloads.hold(2 * downloads.free):
        call = results_pb2_grpc.ResultsStub(channel).Read(results_pb2.ReadRequest(session_id="s", keys=results))
        async with asyncio.timeout(_SOON_S):
            assert [reply.data async for reply in call] == [key.encode() for key in results]
    assert downloads.held == 0


async def test_pieces_are_smaller_where_there_is_little_room(served: Served) -> None:
    async with await served.replica._objects.writer() as writer:
        await writer.write(bytes(3 * _MIB))
    room = Room(32 * _MIB)
    sizes = [len(piece) async for piece in pieces(served.replica._objects, writer.stored, room)]
    assert sizes == [_MIB] * 3
    with room.hold(room.free - 400_000):
        sizes = [len(piece) async for piece in pieces(served.replica._objects, writer.stored, room, _MIB)]
        assert sum(sizes) == 2 * _MIB and set(sizes[:-1]) == {200_000}
    assert room.held == 0


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(
    served: Served, channel: grpc.aio.Channel, results: list[str]
) -> None:
    async with await served.replica._objects.writer() as writer:
        await writer.write(bytes(8 * _MIB))
    stored = writer.stored
    world = served.world
    await world.database.fetch(
        "update blobs b set object = $1, size = $2, sha256 = $3, data = null from results r where r.blob_no = b.blob_no",
        stored.name,
        stored.size,
        stored.sha256,
    )
    stub = results_pb2_grpc.ResultsStub(channel)
    downloads, watcher = served.replica._results._downloads, served.replica._watcher
    with structlog.testing.capture_logs() as logs:
        calls: list[Any] = [stub.Read(results_pb2.ReadRequest(session_id="s", keys=results)) for _ in range(5)]
        calls += [stub.Follow(_forever(["never", *results])) for _ in range(5)]
        for call in calls:
            assert await call.read() is not grpc.aio.EOF
        assert downloads.held > 0
        for call in calls:
            call.cancel()
        await until(lambda: not (downloads.held or watcher._running or watcher._promises or watcher._by_session))
    assert served.replica._results._following.held == 0
    assert not [log for log in logs if log["log_level"] == "error"]


async def _forever(keys: list[str]) -> AsyncIterator[results_pb2.FollowRequest]:
    yield results_pb2.FollowRequest(session_id="s", keys=keys)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
