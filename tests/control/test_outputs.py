"""What attempts print, as one replica tells it: in pieces, each byte once, for no more followers than it has room for."""

import asyncio

import grpc
import grpc.aio
import pytest

import ripieno.control.results.outputs as outputs
from control.replica import Served, until
from ripieno.domain.output import AttemptOutput
from ripieno.store.attempts.attempts import release_if_owned
from ripieno.store.attempts.outputs import keep_live_outputs
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc
from store.world import World, done, task

Piece = tasks_pb2.OutputPiece
Follow = tasks_pb2.FollowOutputRequest


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "LOOK_EVERY_S", 0.01)


async def test_a_follower_is_told_each_byte_once_and_what_it_missed(channel: grpc.aio.Channel, world: World) -> None:
    """The test is the agent that writes: much between two looks, given back, begun anew, and ended."""
    [first] = await world.begin(task("t", "r"))
    call = tasks_pb2_grpc.TasksStub(channel).FollowOutput(Follow(task_id="t", follow=True))

    async def printed(claim: int, output: AttemptOutput) -> Piece:
        await keep_live_outputs(world.database, {claim: output})
        piece = await call.read()
        assert isinstance(piece, Piece)
        return piece

    assert await printed(first.ticket.claim, AttemptOutput(b"one")) == Piece(stdout=b"one")
    assert await printed(first.ticket.claim, AttemptOutput(b"one two", b"!")) == Piece(stdout=b" two", stderr=b"!")
    much = AttemptOutput(b"end", b"!", stdout_left_out=100)
    assert await printed(first.ticket.claim, much) == Piece(stdout=b"end", stdout_left_out=93)
    await release_if_owned(world.database, [first.ticket])
    [second] = (await world.claim()).values()
    assert await printed(second.ticket.claim, AttemptOutput(b"anew")) == Piece(stdout=b"anew")
    await world.commit(done(second, {"r": b""})._replace(output=AttemptOutput(b"anew, and ended")))
    assert await call.read() == Piece(stdout=b", and ended", over=True)
    assert await call.read() is grpc.aio.EOF


async def test_a_task_that_waits_is_followed_until_its_attempt_has_ended(
    channel: grpc.aio.Channel, world: World
) -> None:
    await world.submit(task("t", "r"))
    call = tasks_pb2_grpc.TasksStub(channel).FollowOutput(Follow(task_id="t", follow=True))
    [claimed] = (await world.claim()).values()
    await world.commit(done(claimed, {"r": b""}))
    assert await call.read() == Piece(over=True)


async def test_no_more_are_followed_than_there_is_room_for(
    served: Served, channel: grpc.aio.Channel, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "MOST_FOLLOWED", 2)
    await world.submit(task("t", "r"))
    stub, place = tasks_pb2_grpc.TasksStub(channel), served.replica._tasks._outputs
    calls = [stub.FollowOutput(Follow(task_id="t", follow=True)) for _ in range(2)]
    await until(lambda: place._followed == 2)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.FollowOutput(Follow(task_id="t", follow=True)).read()
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 attempts are followed through this replica already" in (refusal.value.details() or "")
    assert await stub.FollowOutput(Follow(task_id="t")).read() == Piece(), "whoever does not follow is told"
    for call in calls:
        call.cancel()
    await until(lambda: place._followed == 0)


async def test_an_agent_that_does_not_answer_holds_nobody_up(
    channel: grpc.aio.Channel, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "_ANSWER_S", 0.05)
    await world.begin(task("t", "r"))
    async with asyncio.timeout(10):
        assert await tasks_pb2_grpc.TasksStub(channel).FollowOutput(Follow(task_id="t")).read() == Piece()
