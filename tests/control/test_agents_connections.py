"""An agent has one connection that counts, its latest, through whichever replica; earlier ones change nothing."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from control.replica import BareAgent, Served, serving
from ripieno.domain.statuses import TaskStatus
from ripieno.store.sessions.changes import Changes
from ripieno.wire.protos.v1 import agent_pb2, agent_pb2_grpc
from store.world import task

#: So long that nothing here is owed to the renewal of leases.
LEASE_S = 300.0
SOON_S = 20.0


@pytest_asyncio.fixture
async def two(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Served, Served]]:
    """Two replicas of one cluster, with a session ``s``."""
    async with (
        serving(database_url, tmp_path / "objects", lease_s=LEASE_S) as one,
        serving(database_url, tmp_path / "objects", lease_s=LEASE_S) as other,
    ):
        await one.world.session()
        yield one, other


@asynccontextmanager
async def connection(served: Served, agent_id: bytes, number: int) -> AsyncIterator[BareAgent]:
    async with served.connect() as channel:
        agent = BareAgent(channel, agent_id, number)
        try:
            yield agent
        finally:
            agent.leave()


async def submit(served: Served, name: str) -> None:
    await served.world.submit(task(name, f"result of {name}"))
    served.replica._dispatcher.changed_here(Changes(partitions={""}))


async def ended(agent: BareAgent) -> grpc.StatusCode:
    async with asyncio.timeout(SOON_S):
        code: grpc.StatusCode = await agent.call.code()
        return code


async def test_a_connection_elsewhere_ends_the_former_one(two: tuple[Served, Served]) -> None:
    agent_id = uuid.uuid4().bytes
    async with connection(two[0], agent_id, 1) as former, connection(two[1], agent_id, 2) as latest:
        await former.hello(credit=1)
        await latest.hello(credit=1)
        assert await ended(former) is grpc.StatusCode.OK
        await submit(two[0], "t")  # where only the former one was
        two[1].replica._dispatcher.changed_here(Changes(partitions={""}))
        await latest.until(lambda: len(latest.assigned) == 1)
        assert former.assigned == []


async def test_a_connection_here_ends_the_former_one(two: tuple[Served, Served]) -> None:
    agent_id = uuid.uuid4().bytes
    async with connection(two[0], agent_id, 1) as former, connection(two[0], agent_id, 2) as latest:
        await former.hello(credit=1)
        await latest.hello()
        assert await ended(former) is grpc.StatusCode.OK


async def test_an_introduction_that_is_read_late_changes_nothing(two: tuple[Served, Served]) -> None:
    """An old connection's Hello lists no attempts that the agent was given since; they must not be taken from it."""
    agent_id = uuid.uuid4().bytes
    async with connection(two[0], agent_id, 1) as late, connection(two[1], agent_id, 2) as latest:
        await latest.hello(credit=1)
        await submit(two[1], "t")
        await latest.until(lambda: len(latest.assigned) == 1)
        refused = asyncio.create_task(late.hello(credit=1))
        assert await ended(late) is grpc.StatusCode.FAILED_PRECONDITION
        refused.cancel()
        await asyncio.gather(refused, return_exceptions=True)
        assert await two[0].world.statuses("t") == [TaskStatus.DISPATCHED.name]
        await latest.say(credit=1)
        await submit(two[1], "u")
        await latest.until(lambda: len(latest.assigned) == 2)
        assert late.assigned == []


async def test_a_replica_that_has_a_former_connection_releases_nothing(two: tuple[Served, Served]) -> None:
    """Even where it was not told that there is a later one."""
    two[0].replica._agents._notices._remote.clear()
    agent_id = uuid.uuid4().bytes
    async with connection(two[0], agent_id, 1) as former, connection(two[1], agent_id, 2) as latest:
        await former.hello()
        await latest.hello(credit=1)
        await submit(two[1], "t")
        await latest.until(lambda: len(latest.assigned) == 1)
        await two[0].world.rows("update states set claimed_at = now() - interval '1 minute'")
        assert two[0].replica._dispatcher.links
        for _ in range(3):
            await two[0].replica._agents._connected.reconcile()
            assert not two[0].replica._agents._connected._unseen
        assert await two[0].world.statuses("t") == [TaskStatus.DISPATCHED.name]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent_id", b"short"),
        ("name", "a\0b"),
        ("name", "x" * 1025),
        ("version", "\0"),
        ("slots", 2**31),
        ("partitions", ["a", "b\0"]),
        ("partitions", ["a", " "]),
        ("partitions", [str(number) for number in range(1001)]),
        ("connection", 2**63 - 1),
        ("predecessor", b"short"),
    ],
)
async def test_what_no_agent_can_be_is_refused_by_its_field(channel: grpc.aio.Channel, field: str, value: Any) -> None:
    call: Any = agent_pb2_grpc.AgentStub(channel).Connect()
    hello = agent_pb2.Hello(**{"agent_id": uuid.uuid4().bytes, "name": "a", "slots": 1, "connection": 1, field: value})
    await call.write(agent_pb2.AgentMessage(hello=hello))
    async with asyncio.timeout(SOON_S):
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await call.details()).startswith(f"hello.{field}: ")
