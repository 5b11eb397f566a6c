"""A client that follows results slowly holds itself up; it gets every result once, whole, all the same."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import grpc
import grpc.aio
import pytest

import ripieno.control.results.following as following
from control.replica import BareAgent, Served, until
from ripieno.background import Setback
from ripieno.control.results.following import Follower
from ripieno.control.results.room import STREAM_BYTES, Room
from ripieno.control.waiting.fresh_keys import FreshKeys
from ripieno.control.waiting.watches import KeysWatch
from ripieno.domain.statuses import ResultStatus
from ripieno.store.reading.lookup import FinishedKey, finished_results
from ripieno.wire.protos.armonik_v2 import result_status_pb2, submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc
from store.world import World, done, task

_SOON_S = 30.0
SIZE = 60_000
INLINE = 65_536
#: Three times what a stream may hold.
MANY = 3 * STREAM_BYTES // SIZE
_AT_ONCE = 100


def data_of(key: str) -> bytes:
    return (key.encode() * SIZE)[:SIZE]


def keys(count: int) -> list[str]:
    return [f"k{place}" for place in range(count)]


class House:
    """A watch of session ``s`` and a follower, over a real database."""

    def __init__(self, world: World, session_no: int, *, bare: bool = False) -> None:
        self.world = world
        self.room = Room(64 * 1024 * 1024)
        self.watch = KeysWatch(world.database, session_no, INLINE, Setback("looking"), FreshKeys())
        self.read_bytes = 0

        async def read(wanted: Sequence[str], most_bytes: int) -> Sequence[FinishedKey]:
            found = await finished_results(world.database, session_no, wanted, INLINE, most_bytes)
            self.read_bytes += sum(len(each.data or b"") for each in found)
            return found

        self.follower = Follower(self.watch, read, self.room, bare=bare)

    async def make(self, wanted: Sequence[str]) -> None:
        """Complete results, which the watch hears of as work of its own replica."""
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            claimed = await self.world.begin(*(task(f"task of {key}", key) for key in part))
            self.watch.changed(
                await self.world.commit(
                    *(done(each, {key: data_of(key)}) for each, key in zip(claimed, part, strict=True))
                )
            )

    async def take_all(self) -> dict[str, FinishedKey]:
        got: dict[str, FinishedKey] = {}
        self.follower.complete()
        while taken := await self.follower.take():
            assert sum(len(each.data or b"") for each in taken) <= 1024 * 1024
            for each in taken:
                assert each.key not in got
                got[each.key] = each
            self.follower.written()
        return got


async def test_what_is_not_taken_waits_in_the_store(world: World) -> None:
    house = House(world, await world.number())
    house.follower.ask(keys(MANY))
    await house.make(keys(MANY))
    assert STREAM_BYTES - 2 * SIZE < house.room.held <= STREAM_BYTES
    assert house.read_bytes == 0

    got = await house.take_all()

    assert {key: each.data for key, each in got.items()} == {key: data_of(key) for key in keys(MANY)}
    assert house.room.held == 0
    # What was dropped was read once and no more.
    assert house.read_bytes < MANY * SIZE - STREAM_BYTES + 3 * SIZE


async def test_a_full_house_leaves_each_stream_a_result_at_a_time(world: World) -> None:
    house = House(world, await world.number())
    house.room.force(house.room.free)
    full = house.room.held
    house.follower.ask(keys(20))
    await house.make(keys(20))
    assert house.room.held == full
    taken = await house.follower.take()
    assert len(taken) == 1 and taken[0].data == data_of("k0")
    house.follower.written()
    house.follower.close()
    assert house.room.held == full


async def test_a_client_that_takes_nothing_holds_keys_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_STALLED_AFTER_S", 0.05)
    house = House(world, await world.number())
    house.follower.ask(keys(40))
    await house.make(keys(20))
    taken = await house.follower.take()
    await until(lambda: not house.room.held)
    await house.make(keys(40)[20:])
    assert house.room.held == 0
    house.follower.written()
    got = await house.take_all()
    assert [*(each.key for each in taken), *got] == keys(40)
    house.follower.close()
    assert house.room.free == Room(64 * 1024 * 1024).free


async def test_without_data_nothing_is_held_but_names(world: World) -> None:
    house = House(world, await world.number(), bare=True)
    house.follower.ask(keys(MANY))
    await house.make(keys(MANY))
    assert house.room.held < 300 * MANY
    got = await house.take_all()
    assert {(each.data, each.size, each.status) for each in got.values()} == {(None, SIZE, ResultStatus.COMPLETED)}
    assert len(got) == MANY and house.read_bytes == 0


async def test_a_result_that_the_database_forgot_is_waited_for_again(world: World) -> None:
    house = House(world, await world.number())
    house.room.force(house.room.free)
    house.follower.ask(["k0"])
    await house.make(["k0"])
    # A fail-over to a standby that had not got the commit yet.
    await world.database.fetch("update results set status = 1, blob_no = null, ended_at = null where key = 'k0'")
    taking = asyncio.create_task(house.follower.take())
    await asyncio.sleep(0.1)
    assert not taking.done()
    await world.database.fetch("update results set status = 11, ended_at = now() where key = 'k0'")
    await house.watch.look._look(True)
    assert [each.status for each in await taking] == [ResultStatus.ABORTED]


class Stream:
    """A stream of ``Results.Follow`` that is read when its test says so."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call = results_pb2_grpc.ResultsStub(channel).Follow()
        self.got: list[results_pb2.FinishedResult] = []
        self.largest = 0

    async def ask(self, wanted: Iterable[str]) -> None:
        await self.call.write(results_pb2.FollowRequest(session_id="s", keys=list(wanted)))

    async def read(self, count: int) -> None:
        """Until so many results are there."""
        async with asyncio.timeout(_SOON_S):
            while len(self.got) < count:
                reply = await self.call.read()
                assert isinstance(reply, results_pb2.FollowReply)
                self.largest = max(self.largest, reply.ByteSize())
                self.got += reply.finished

    def data(self) -> Mapping[str, bytes]:
        assert len({one.key for one in self.got}) == len(self.got), "a key was answered twice"
        return {one.key: one.data for one in self.got}


async def test_a_client_that_reads_late_gets_everything_once(
    served: Served, channel: grpc.aio.Channel, world: World
) -> None:
    await world.submit(task("held", "held", needs=["never"]))
    await world.submit(*(task(f"task of {key}", key) for key in keys(MANY)))
    stream = Stream(channel)
    await stream.ask(["held", *keys(MANY)])
    async with served.connect() as other:
        agent = BareAgent(other)
        await agent.hello(credit=_AT_ONCE)
        await agent.complete(MANY, data_of)
        agent.leave()

    await stream.read(MANY)

    assert stream.data() == {key: data_of(key) for key in keys(MANY)}
    assert stream.largest < 2 * 1024 * 1024
    await submitter_service_pb2_grpc.SubmitterStub(channel).CancelSession(submitter_service_pb2.Session(id="s"))
    await stream.call.done_writing()
    await stream.read(MANY + 1)
    assert stream.got[-1].status == result_status_pb2.RESULT_STATUS_ABORTED
    assert await stream.call.read() is grpc.aio.EOF
    assert await stream.call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("length", [1, 900])
async def test_aborted_results_come_in_bounded_messages(
    served: Served, channel: grpc.aio.Channel, world: World, length: int
) -> None:
    wanted = [f"{place:04}".ljust(length + 4, "x") for place in range(2_000)]
    for start in range(0, len(wanted), _AT_ONCE):
        await world.submit(*(task(f"task of {key}", key, needs=["never"]) for key in wanted[start : start + _AT_ONCE]))
    stream = Stream(channel)
    await stream.ask(wanted)
    await submitter_service_pb2_grpc.SubmitterStub(channel).CancelSession(submitter_service_pb2.Session(id="s"))
    await stream.read(len(wanted))
    assert {one.key for one in stream.got} == set(wanted)
    assert {one.error.errors[-1].detail for one in stream.got} == {"cancelled"}
    assert stream.largest < 2 * 1024 * 1024
