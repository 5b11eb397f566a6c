"""What workers of any make print, through `ripieno.v1.Tasks`: stored, and live through whichever replica."""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from protocol.bare_client import Client
from protocol.cluster import running
from protocol.messages import COMPLETED, options, task, unique
from protocol.spawned_worker import PRINT, STALL
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc

SPAWNED = f"{sys.executable} -m protocol.spawned_worker {{address}}"
Piece = tasks_pb2.OutputPiece


class Pair:
    """Two replicas on one database, and an agent of the second one with one worker that is made of stubs."""

    def __init__(self, client: Client, one: str, two: str) -> None:
        self.client = client
        self.addresses = (one, two)

    def follow(
        self, replica: int, task_id: str, *, follow: bool = True, attempt: int | None = None
    ) -> AsyncIterator[Piece]:
        """What a task prints, as one of the replicas tells it."""
        return _pieces(self.addresses[replica], task_id, follow=follow, attempt=attempt)


async def _pieces(address: str, task_id: str, *, follow: bool, attempt: int | None) -> AsyncIterator[Piece]:
    request = tasks_pb2.FollowOutputRequest(task_id=task_id, attempt=attempt, follow=follow)
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
        async for piece in tasks_pb2_grpc.TasksStub(channel).FollowOutput(request):
            yield piece


@pytest_asyncio.fixture(loop_scope="session")
async def pair(database_url: str) -> AsyncIterator[Pair]:
    control = ("control", "--database", database_url, "--listen", "127.0.0.1:0")
    async with (
        running(*control) as one,
        running(*control) as two,
        running("agent", "--control", two.address, "--slots", "1", "--worker", SPAWNED),
        Client(one.address) as client,
    ):
        yield Pair(client, one.address, two.address)


async def test_each_attempt_of_a_worker_of_another_make_has_its_own(pair: Pair) -> None:
    session, names = await pair.client.session(), [unique("prints") for _ in range(5)]
    for name in names:
        free = {PRINT: f"this is {name}"} if name != names[2] else {}
        await pair.client.submit(session, task(name), task_options=options(free=free))
    await pair.client.finish(session)
    for place, name in enumerate(names):
        assert await pair.client.status(name) == COMPLETED
        [piece] = [piece async for piece in pair.follow(place % 2, name)]
        text = f"this is {name}".encode() if name != names[2] else b""
        expected = Piece(stdout=text, stderr=str(len(text)).encode() if text else b"", over=True)
        assert piece == expected


async def test_a_running_attempt_is_followed_through_another_replica_than_its_agents(pair: Pair) -> None:
    session, name = await pair.client.session(), unique("live")
    await pair.client.submit(session, task(name), task_options=options(free={PRINT: "live", STALL: ""}))
    for replica in (0, 1):
        async for piece in pair.follow(replica, name):
            assert piece == Piece(stdout=b"live", stderr=b"4")
            break
        [now] = [piece async for piece in pair.follow(replica, name, follow=False)]
        assert now == Piece(stdout=b"live", stderr=b"4")
    following = [asyncio.create_task(_all(pair.follow(replica, name))) for replica in (0, 1)]
    await pair.client.cancel_session(session)
    for pieces in await asyncio.gather(*following):
        assert pieces[-1].over
        assert b"".join(piece.stdout for piece in pieces) == b"live"
    assert await _all(pair.follow(0, name)) == [Piece(stdout=b"live", stderr=b"4", over=True)]


async def _all(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


async def test_what_cannot_be_told_is_refused_by_name(pair: Pair) -> None:
    for task_id, attempt, code, words in [
        ("", None, grpc.StatusCode.INVALID_ARGUMENT, "task_id: '' is blank"),
        ("x", -1, grpc.StatusCode.INVALID_ARGUMENT, "attempt: is -1; attempts are numbered from 0"),
        ("x", None, grpc.StatusCode.NOT_FOUND, "there is no task 'x'"),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await _all(pair.follow(0, task_id, attempt=attempt))
        assert refusal.value.code() is code
        assert words in (refusal.value.details() or "")
