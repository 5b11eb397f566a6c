"""Agents: one number for good, a lease, and what they hold."""

from uuid import UUID, uuid4

from ripieno.domain.outcomes import Failed, Failure, Outcome, Ticket
from ripieno.store.agents import (
    check_held,
    expired_attempts,
    forget_agents,
    held_by,
    register_agent,
    renew_leases,
)
from ripieno.store.confirmations import cancelling_at
from store.world import World, over, task


async def claim_for(world: World, agent: int, *ids: str) -> list[Ticket]:
    await world.submit(*(task(each) for each in ids))
    claimed = await world.claim(len(ids), agent=agent)
    return [claimed[each].ticket for each in ids]


async def test_an_agent_that_comes_back_has_its_number(world: World) -> None:
    first, second = uuid4(), uuid4()

    async def register(agent_id: UUID, name: str) -> int:
        return await register_agent(
            world.database, agent_id, name=name, slots=4, partitions=["", "gpu"], version="1", lease_s=30
        )

    number = await register(first, "before")
    assert await register(second, "other") != number
    assert await register(first, "after") == number
    assert await world.rows("select name, partitions from agents where agent_no = $1", number) == [
        ("after", ["", "gpu"])
    ]


async def test_what_an_agent_holds(world: World) -> None:
    agent, other = await world.agent(), await world.agent()
    a, b, c = await claim_for(world, agent, "a", "b", "c")
    [d] = await claim_for(world, other, "d")
    assert await held_by(world.database, agent) == [a, b, c]
    await world.cancel("b", "d")
    await world.commit(over(d))
    assert await cancelling_at(world.database, [agent, other]) == {agent: [b]}
    gone = Ticket(a.task_no, a.session_no, a.claim + 1_000_000)
    lost, cancelled = await check_held(world.database, agent, [gone, b, c, d])
    assert (lost, cancelled) == ([gone, d], [b])
    assert (await check_held(world.database, other, [a]))[0] == [a]
    assert await check_held(world.database, agent, []) == ([], [])
    await world.commit(over(b))


async def test_a_lease_that_ran_out(world: World) -> None:
    lost = await world.agent("lost", lease_s=-1)
    alive = await world.agent("alive")
    tickets = await claim_for(world, lost, "a", "b", "c")
    await claim_for(world, alive, "d")
    await world.cancel("c")
    expired = await expired_attempts(world.database, 100)
    assert sorted(expired) == [(ticket, "lost") for ticket in tickets]
    assert len(await expired_attempts(world.database, 2)) == 2
    await renew_leases(world.database, [lost, alive], 60)
    assert await expired_attempts(world.database, 100) == []
    await renew_leases(world.database, [], 60)
    await renew_leases(world.database, [lost], -1)
    rescued = [
        Outcome(ticket, Failed(Failure.ATTEMPT, f"agent {name!r} was lost"))
        for ticket, name in await expired_attempts(world.database, 100)
    ]
    await world.commit(*rescued)
    assert await expired_attempts(world.database, 100) == []
    assert await world.statuses("a", "b", "c", "d") == ["SUBMITTED", "SUBMITTED", "CANCELLED", "DISPATCHED"]


async def test_only_who_is_gone_and_holds_nothing_is_forgotten(world: World) -> None:
    day = 24 * 3600
    await world.agent("gone", lease_s=-2 * day)
    holding = await world.agent("holding", lease_s=-2 * day)
    await world.agent("recent", lease_s=-day / 2)
    await world.agent("alive")
    await claim_for(world, holding, "a")
    await forget_agents(world.database)
    assert await world.rows("select name from agents order by agent_no") == [("holding",), ("recent",), ("alive",)]
