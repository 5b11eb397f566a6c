"""An agent that takes the place of one whose process has ended gets its work at once, not after a lease."""

import asyncio
import uuid

import grpc.aio
import pytest

from control.replica import BareAgent, Served, serving
from ripieno.config import ControlSettings
from ripieno.wire.protos.v1 import agent_pb2
from store.world import World, task

LEASE_S = ControlSettings("").lease_s


@pytest.mark.parametrize("known", [True, False], ids=["known", "never seen"])
async def test_what_a_predecessor_held_runs_again_at_once(served: Served, world: World, known: bool) -> None:
    """Also where the replica still believes in the predecessor's connection, as it may for a moment."""
    await world.submit(task("t", "k"))
    async with served.connect() as channel, served.connect() as other:
        before, after = BareAgent(channel), BareAgent(other)
        await before.hello(credit=1)
        await before.until(lambda: bool(before.assigned))
        await after.hello(credit=1, predecessor=before.agent_id if known else bytes(16))
        if not known:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await after.until(lambda: bool(after.assigned))
            return
        async with asyncio.timeout(LEASE_S / 2):
            await after.until(lambda: bool(after.assigned))
        assert after.assigned[0].task_no == before.assigned[0].task_no
        assert after.assigned[0].claim != before.assigned[0].claim
        assert await world.reasons("t") == [("ERROR", "agent 'bare' was lost: its process ended")]
        after.leave()


async def test_an_agent_that_was_ended_is_ended_on_every_replica_and_never_welcome_again(
    served: Served, database_url: str
) -> None:
    async with (
        serving(database_url, served.objects) as elsewhere,
        served.connect() as here,
        elsewhere.connect() as there,
    ):
        before, after = BareAgent(there), BareAgent(here)
        await before.hello()
        await after.hello(predecessor=before.agent_id)
        async with asyncio.timeout(LEASE_S):
            await before.call.code()
        again = BareAgent(there, before.agent_id, connection=1_000)
        assert "has connected anew" in await refusal(again)
        after.leave()


async def test_identities_that_cannot_be_are_refused(channel: grpc.aio.Channel) -> None:
    short = await refusal(BareAgent(channel), predecessor=b"abc")
    assert short == "hello.predecessor: has 3 bytes instead of 16"
    itself = uuid.uuid4().bytes
    assert await refusal(BareAgent(channel, itself), predecessor=itself) == "hello.predecessor: is the agent itself"


async def refusal(agent: BareAgent, predecessor: bytes = b"") -> str:
    """Introduce an agent that is refused; return what it is told."""
    hello = agent_pb2.Hello(agent_id=agent.agent_id, name="bare", slots=1, connection=1_000, predecessor=predecessor)
    await agent.say(hello=hello)
    async with asyncio.timeout(LEASE_S):
        assert await agent.call.code() != grpc.StatusCode.OK
        return str(await agent.call.details())
