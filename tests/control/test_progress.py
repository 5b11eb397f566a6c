"""How far tasks have come, as replicas tell it: through any of them, while they run, and no more than has changed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio

import ripieno.control.results.progress as progress
from control.replica import BareAgent, Served, serving, until
from ripieno.domain.statuses import SessionStep
from ripieno.store.sessions.changes import Changes
from ripieno.wire.protos.v1 import agent_pb2, tasks_pb2, tasks_pb2_grpc
from store.world import task

Follow = tasks_pb2.FollowProgressRequest
Report = tasks_pb2.ProgressReport


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_EVERY_S", 0.01)


@pytest_asyncio.fixture
async def two(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Served, Served]]:
    """Two replicas of one cluster, with a session ``s``."""
    async with (
        serving(database_url, tmp_path / "objects") as one,
        serving(database_url, tmp_path / "objects") as other,
    ):
        await one.world.session()
        yield one, other


def report(task_id: str, fraction: float, text: str = "") -> Report:
    return Report(progress=[Report.Progress(task_id=task_id, fraction=fraction, text=text)])


async def test_a_follower_of_one_replica_is_told_what_an_agent_of_another_says(two: tuple[Served, Served]) -> None:
    one, other = two
    async with one.connect() as channel, other.connect() as elsewhere:
        bare = BareAgent(channel)
        await bare.hello(credit=2)
        await one.world.submit(task("t", "r"), task("u", "v"))
        one.replica._dispatcher.changed_here(Changes(partitions={""}))
        await bare.until(lambda: len(bare.assigned) == 2)
        tickets = bare.assigned

        async def says(place: int, fraction: float, text: str = "") -> None:
            said = agent_pb2.Progress(fraction=fraction, text=text)
            await bare.say(progress=[agent_pb2.LiveProgress(ticket=tickets[place], progress=said)])

        stub = tasks_pb2_grpc.TasksStub(elsewhere)
        call = stub.FollowProgress(Follow(session_id="s", follow=True))
        await bare.until(lambda: any(message.follow_progress for message in bare.said))
        assert {number for message in bare.said for number in message.follow_progress} == {tickets[0].session_no}
        await says(0, 0.25, "a quarter")
        assert await call.read() == report("t", 0.25, "a quarter")
        await says(0, 0.25, "a quarter")  # the same again is no news
        await says(1, 7.0)
        assert await call.read() == report("u", 1.0)
        asked = len(bare.said)

        async def answer() -> None:
            await bare.until(lambda: any(message.follow_progress for message in bare.said[asked:]))
            await says(0, 0.5)

        answering = asyncio.create_task(answer())
        assert await stub.FollowProgress(Follow(task_id="t")).read() == report("t", 0.5)
        await answering
        stranger = agent_pb2.Ticket(task_no=tickets[0].task_no, session_no=tickets[0].session_no, claim=7)
        await bare.say(progress=[agent_pb2.LiveProgress(ticket=stranger, progress=agent_pb2.Progress(fraction=0.9))])
        await says(1, 0.75)
        assert [await call.read(), await call.read()] == [report("t", 0.5), report("u", 0.75)]
        call.cancel()
        bare.leave()
        await until(lambda: other.replica._tasks._progress._followed == 0)


async def test_who_asks_of_nothing_is_told_so(channel: grpc.aio.Channel, served: Served) -> None:
    stub = tasks_pb2_grpc.TasksStub(channel)
    for request, what in ((Follow(session_id="x"), "session 'x' does not exist"), (Follow(task_id="y"), "no task 'y'")):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.FollowProgress(request).read()
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND and what in (refusal.value.details() or "")
    await served.world.submit(task("t", "r"))
    assert await stub.FollowProgress(Follow(task_id="t")).read() == Report(), "it does not run: nobody is asked"


async def test_no_more_follow_than_there_is_room_for(
    channel: grpc.aio.Channel, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MOST_FOLLOWED", 1)
    stub, place = tasks_pb2_grpc.TasksStub(channel), served.replica._tasks._progress
    call = stub.FollowProgress(Follow(session_id="s", follow=True))
    await until(lambda: place._followed == 1)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.FollowProgress(Follow(session_id="s", follow=True)).read()
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    call.cancel()
    await until(lambda: place._followed == 0)


async def test_following_ends_with_the_session(
    channel: grpc.aio.Channel, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "ASK_EVERY_S", 0.01)
    call = tasks_pb2_grpc.TasksStub(channel).FollowProgress(Follow(session_id="s", follow=True))
    await until(lambda: served.replica._tasks._progress._followed == 1)
    await served.world.live(SessionStep.DELETE)
    async with asyncio.timeout(20):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call.read()
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
