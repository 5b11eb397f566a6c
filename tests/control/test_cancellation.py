"""After the reply nothing cancelled begins, whoever cancelled it, and what an agent has not confirmed it hears again."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from control.replica import BareAgent, Served, serving
from ripieno.control.agents.reminders import REMIND_EVERY_S
from ripieno.store.database.gates import gates
from ripieno.store.graph.cancel import cancel_session
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import agent_pb2
from store.world import World, task, until_one_waits, whole

Stub = submitter_service_pb2_grpc.SubmitterStub
Filter = submitter_service_pb2.TaskFilter
#: Long enough for a reply that does not wait, short enough to wait for.
_NO_REPLY_S = 0.3
_SOON_S = 10.0


@pytest_asyncio.fixture
async def agent(channel: grpc.aio.Channel, world: World) -> AsyncIterator[BareAgent]:
    """Holds ``t``, and says nothing of its own accord."""
    await world.submit(task("t", "k"))
    agent = BareAgent(channel)
    await agent.hello(credit=1)
    await agent.until(lambda: bool(agent.assigned))
    yield agent
    agent.leave()


async def cancel(channel: grpc.aio.Channel, how: str, timeout_s: float) -> grpc.StatusCode:
    """The code of a call that cancels ``t``."""
    stub = Stub(channel)
    try:
        if how == "session":
            await stub.CancelSession(submitter_service_pb2.Session(id="s"), timeout=timeout_s)
        elif how == "tasks of a session":
            await stub.CancelTasks(Filter(session=Filter.IdsRequest(ids=["s"])), timeout=timeout_s)
        else:
            await stub.CancelTasks(Filter(task=Filter.IdsRequest(ids=["t"])), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


HOW = ["session", "tasks of a session", "tasks"]


@pytest.mark.parametrize("second", HOW)
@pytest.mark.parametrize("first", HOW)
async def test_every_call_waits_until_it_is_confirmed(
    channel: grpc.aio.Channel, agent: BareAgent, world: World, first: str, second: str
) -> None:
    for how in (first, second, second):
        assert await cancel(channel, how, _NO_REPLY_S) is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = asyncio.create_task(cancel(channel, second, _SOON_S))

    await agent.say(interrupting=agent.assigned)

    assert await waiting is grpc.StatusCode.OK
    assert await cancel(channel, first, _SOON_S) is grpc.StatusCode.OK
    assert await world.statuses("t") == ["CANCELLING"]


async def test_an_attempt_that_was_given_back_never_begins(channel: grpc.aio.Channel, agent: BareAgent) -> None:
    waiting = asyncio.create_task(cancel(channel, "session", _SOON_S))
    await agent.until(lambda: bool(agent.cancelled))
    await agent.say(released=agent.assigned)
    assert await waiting is grpc.StatusCode.OK


@pytest.mark.parametrize("runs", [True, False])
async def test_a_notice_that_was_lost_is_told_until_it_is_confirmed(agent: BareAgent, world: World, runs: bool) -> None:
    if runs:
        await agent.say(started=[agent_pb2.Started(ticket=agent.assigned[0], at_us=1, worker="w")])
        async with asyncio.timeout(_SOON_S):
            while True:
                if await world.statuses("t") == ["PROCESSING"]:
                    break
                await asyncio.sleep(0.01)
    # By a replica that ends between its commit and its notice.
    await whole(cancel_session(world.database, await world.number()))

    await agent.until(lambda: len(agent.cancelled) >= 2)

    await agent.say(interrupting=agent.assigned)
    await asyncio.sleep(2 * REMIND_EVERY_S)  # What was on its way has come by then.
    told = len(agent.cancelled)
    await asyncio.sleep(3 * REMIND_EVERY_S)
    assert len(agent.cancelled) == told
    assert set(agent.cancelled) == {agent.assigned[0].claim}


async def test_a_caller_that_goes_away_in_the_middle_leaves_nothing_half_told(
    served: Served, channel: grpc.aio.Channel, agent: BareAgent, world: World
) -> None:
    number = await world.number()
    async with world.database.connection() as holder:
        await holder.execute(f"begin;{gates([number], frozenset([number]))}")
        async with served.connect() as other:
            call = Stub(other).CancelSession(submitter_service_pb2.Session(id="s"))
            waiting = asyncio.ensure_future(call)
            await until_one_waits(world)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await holder.execute("rollback")

    await agent.until(lambda: bool(agent.cancelled))

    assert await world.statuses("t") == ["CANCELLING"]


async def test_a_call_to_one_replica_waits_for_an_agent_at_another(
    served: Served, agent: BareAgent, database_url: str
) -> None:
    async with serving(database_url, served.objects) as other, other.connect() as channel:
        waiting = asyncio.create_task(cancel(channel, "session", _SOON_S))
        await agent.until(lambda: bool(agent.cancelled))
        assert not waiting.done()
        await agent.say(interrupting=agent.assigned)
        assert await waiting is grpc.StatusCode.OK
