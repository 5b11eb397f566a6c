"""Following events through a replica's stream, as a client does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from control.replica import Served, serving
from ripieno.client import AsyncClient, Client, TaskChange
from ripieno.wire.protos.v1 import events_pb2, events_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from store.world import World, done, task

_PATIENCE_S = 20.0


class Stream:
    """One stream of events; what it said is gathered."""

    def __init__(self, channel: grpc.aio.Channel, **request: Any) -> None:
        self._call: Any = events_pb2_grpc.EventsStub(channel).Follow(events_pb2.FollowEventsRequest(**request))
        self.batches: list[events_pb2.EventBatch] = []

    @property
    def cursor(self) -> str:
        """The latest one that was told."""
        return [batch.cursor for batch in self.batches if batch.cursor][-1]

    def told(self) -> list[str]:
        """All events in short."""
        return [_short(event) for batch in self.batches for event in batch.events]

    async def until(self, *texts: str) -> None:
        """Read on until all of these were told."""
        async with asyncio.timeout(_PATIENCE_S):
            while not set(texts) <= set(self.told()):
                self.batches.append(await self._call.read())

    async def until_live(self) -> None:
        """Read on until the snapshot, and what came meanwhile, is complete."""
        async with asyncio.timeout(_PATIENCE_S):
            while not any(batch.cursor for batch in self.batches):
                self.batches.append(await self._call.read())

    async def end(self) -> grpc.StatusCode:
        """Read to the end, which comes by itself; its code."""
        async with asyncio.timeout(_PATIENCE_S):
            try:
                while await self._call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError as error:
                return error.code()
            code: grpc.StatusCode = await self._call.code()
            return code

    def leave(self) -> None:
        """Go away without a word."""
        self._call.cancel()


def _short(event: events_pb2.Event) -> str:
    kind = event.WhichOneof("change")
    if kind == "session":
        return f"{event.session_id} {event.session.status}"
    if kind == "result":
        return f"{event.result.key} {event.result.status} {event.result.size}"
    return f"{event.task.task_id} {event.task.status} {event.task.attempt}"


@asynccontextmanager
async def following(served: Served, **request: Any) -> AsyncIterator[Stream]:
    async with served.connect() as channel:
        stream = Stream(channel, **request)
        yield stream
        stream.leave()


async def run(world: World, task_id: str, key: str, data: bytes) -> None:
    claimed = await world.claim()
    await world.commit(done(claimed[task_id], {key: data}))


async def test_a_snapshot_then_each_change(served: Served, world: World) -> None:
    await world.submit(task("a", "x"))
    async with following(served, session_ids=["s"]) as stream:
        await stream.until_live()
        assert stream.told() == ["s RUNNING", "x CREATED 0", "a SUBMITTED 0"]
        assert [batch.snapshot_ends for batch in stream.batches].count(True) == 1
        await run(world, "a", "x", b"four")
        await stream.until("a COMPLETED 0", "x COMPLETED 4")
        await world.submit(task("b", "y"))
        await stream.until("b SUBMITTED 0")
    assert stream.told()[3:] == ["a DISPATCHED 0", "a COMPLETED 0", "x COMPLETED 4", "y CREATED 0", "b SUBMITTED 0"]


async def test_a_cursor_goes_on_through_another_replica(
    served: Served, world: World, database_url: str, tmp_path: Path
) -> None:
    await world.submit(task("a", "x"))
    async with following(served) as stream:
        await stream.until_live()
    await run(world, "a", "x", b"v")
    async with serving(database_url, served.objects) as elsewhere, following(elsewhere, cursor=stream.cursor) as again:
        await again.until("x COMPLETED 1")
        assert again.told() == ["a DISPATCHED 0", "a COMPLETED 0", "x COMPLETED 1"]
        await world.submit(task("b", "y"))
        await again.until("b SUBMITTED 0")
        assert not any(batch.snapshot or batch.restarted for batch in again.batches)


async def test_a_cursor_that_is_too_old_begins_with_a_snapshot_and_says_so(served: Served, world: World) -> None:
    async with following(served, session_ids=["s"]) as stream:
        await stream.until_live()
    await world.submit(task("a", "x"))
    await world.rows("update cluster set changes_dropped = pg_current_snapshot()")
    async with following(served, session_ids=["s"], cursor=stream.cursor) as again:
        await again.until_live()
        assert "too old" in again.batches[0].restarted
        assert again.told() == ["s RUNNING", "x CREATED 0", "a SUBMITTED 0"]
    await world.rows("update cluster set changes_dropped = null")


async def test_from_now_on_without_a_snapshot(served: Served, world: World) -> None:
    await world.submit(task("a", "x"))
    async with following(served, without_snapshot=True) as stream:
        await stream.until_live()
        await world.submit(task("b", "y"))
        await stream.until("b SUBMITTED 0")
        assert stream.told() == ["y CREATED 0", "b SUBMITTED 0"]


async def test_one_session_alone_among_others_that_are_busy(served: Served, world: World) -> None:
    await world.session("other")
    async with following(served, session_ids=["s"], without_snapshot=True) as stream:
        await stream.until_live()
        for number in range(20):
            await world.submit(task(f"o{number}", f"k{number}"), session_id="other")
        await world.submit(task("b", "y"))
        await stream.until("b SUBMITTED 0")
        assert stream.told() == ["y CREATED 0", "b SUBMITTED 0"]


async def test_many_events_come_in_several_messages(served: Served, world: World) -> None:
    keys = ["k" * 300 + f"{number}" for number in range(5_000)]
    await world.submit(task("a", *keys))
    async with following(served, session_ids=["s"]) as stream:
        await stream.until_live()
        assert len(stream.told()) == 5_002
        assert all(batch.ByteSize() < 4 * 1024 * 1024 for batch in stream.batches)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"session_ids": ["nowhere"]}, grpc.StatusCode.NOT_FOUND),
        ({"session_ids": [""]}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"cursor": "rubbish"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["unknown session", "empty id", "rubbish for a cursor"],
)
async def test_bad_requests_are_told(served: Served, request_: dict[str, Any], code: grpc.StatusCode) -> None:
    async with following(served, **request_) as stream:
        assert await stream.end() is code


async def test_a_session_that_is_deleted_ends_its_stream(served: Served, world: World) -> None:
    await world.submit(task("a", "x"))
    async with following(served, session_ids=["s"]) as stream, following(served) as of_all, served.connect() as channel:
        await stream.until_live()
        await of_all.until_live()
        named = sessions_pb2.SessionId(session_id="s")
        await sessions_pb2_grpc.SessionsStub(channel).Delete(named, timeout=_PATIENCE_S)
        await stream.until("s DELETED")
        assert await stream.end() is grpc.StatusCode.NOT_FOUND
        await of_all.until("s DELETED")


async def test_a_replica_that_goes_away_ends_its_streams(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url, tmp_path / "objects", drain_s=10) as served, following(served) as stream:
        await stream.until_live()
        served.stop.set()
        assert await stream.end() is grpc.StatusCode.UNAVAILABLE


async def test_followers_that_left_cost_nothing(served: Served, world: World) -> None:
    tail = next(part for part in served.replica._parts if type(part).__name__ == "Tail")
    for _ in range(5):
        async with following(served) as stream:
            await stream.until_live()
    async with asyncio.timeout(_PATIENCE_S):
        while tail._places or tail._joined.is_set():  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_client_goes_on_with_another_replica_and_is_told_each_change_once(
    database_url: str, tmp_path: Path
) -> None:
    objects = tmp_path / "objects"
    async with serving(database_url, objects) as elsewhere:
        world = elsewhere.world
        await world.session()
        async with serving(database_url, objects) as here:
            client = AsyncClient(f"{here.address},{elsewhere.address}", patience=_PATIENCE_S)
            await client.__aenter__()
            events = client.events("s")
            known: list[str] = []

            async def until(task_id: str) -> None:
                async with asyncio.timeout(_PATIENCE_S):
                    while task_id not in known:
                        batch = await anext(events)
                        known.extend(change.task_id for change in batch.changes if isinstance(change, TaskChange))

            await world.submit(task("a", "x"))
            await until("a")
            async with asyncio.timeout(_PATIENCE_S):
                while (await anext(events)).cursor is None:  # until the snapshot is complete
                    pass
        for number in range(5):
            await world.submit(task(f"b{number}", f"y{number}"))
        await until("b4")
        assert known == ["a", "b0", "b1", "b2", "b3", "b4"]
        await events.aclose()
        await client.__aexit__(None, None, None)


async def test_a_blocking_client_follows_events(served: Served, world: World) -> None:
    await world.submit(task("a", "x"))

    def follow() -> list[object]:
        with Client(served.address) as client:
            for batch in client.events():
                if batch.snapshot_ends:
                    return list(told)
                told.extend(batch.changes)
        return []

    told: list[object] = []
    assert [type(change).__name__ for change in await asyncio.to_thread(follow)] == [
        "SessionChange",
        "ResultChange",
        "TaskChange",
    ]
