"""Agents: one number for good, a lease, and what they hold."""

import asyncio
from uuid import UUID, uuid4

import pytest

from ripieno.domain.errors import ConflictError
from ripieno.domain.outcomes import Failed, Failure, Outcome, Ticket
from ripieno.store.attempts.confirmations import cancelling_at
from ripieno.store.cluster.agents import (
    check_held,
    forget_agents,
    held_by,
    held_by_lapsed,
    introduce_replica,
    read_renewals,
    register_agent,
    renew_leases,
    without_replica,
    write_to,
)
from ripieno.store.database.connections import Connection
from store.world import World, over, task


async def claim_for(world: World, agent: int, *ids: str) -> list[Ticket]:
    await world.submit(*(task(each) for each in ids))
    claimed = await world.claim(len(ids), agent=agent)
    return [claimed[each].ticket for each in ids]


async def test_an_agent_that_comes_back_has_its_number(world: World) -> None:
    first, second = uuid4(), uuid4()

    async def register(agent_id: UUID, name: str, epoch: int) -> int:
        return await register_agent(
            world.database, agent_id, name=name, slots=4, partitions=["", "gpu"], version="1", lease_s=30, epoch=epoch
        )

    number = await register(first, "before", 1)
    assert await register(second, "other", 1) != number
    assert await register(first, "after", 3) == number
    for late in (1, 2, 3):
        with pytest.raises(ConflictError, match="connected anew"):
            await register(first, "late", late)
    assert await world.rows("select name, partitions from agents where agent_no = $1", number) == [
        ("after", ["", "gpu"])
    ]


async def test_an_agent_that_is_written_to_is_what_it_was(world: World) -> None:
    agent, other = await world.agent(), await world.agent()
    before = await world.rows("select * from agents order by agent_no")

    async def written(connection: Connection) -> set[int]:
        found = await write_to(connection, [other, agent])
        async with world.database.connection() as elsewhere:
            assert await write_to(elsewhere, [agent, other]) == set()  # it does not wait for who writes to them
        return found

    assert await world.database.transaction(written) == {agent, other}
    assert await world.rows("select * from agents order by agent_no") == before


async def test_what_an_agent_holds(world: World) -> None:
    agent, other = await world.agent(), await world.agent()
    a, b, c = await claim_for(world, agent, "a", "b", "c")
    [d] = await claim_for(world, other, "d")
    assert await held_by(world.database, agent, 0) == [a, b, c]
    assert await held_by(world.database, agent, 1) == []  # who asks has another connection of it than the latest
    await world.cancel("b", "d")
    await world.commit(over(d))
    assert await cancelling_at(world.database, [agent, other]) == {agent: [b]}
    gone = Ticket(a.task_no, a.session_no, a.claim + 1_000_000)
    lost, cancelled = await check_held(world.database, agent, [gone, b, c, d])
    assert (lost, cancelled) == ([gone, d], [b])
    assert (await check_held(world.database, other, [a]))[0] == [a]
    assert await check_held(world.database, agent, []) == ([], [])
    await world.commit(over(b))


async def test_renewals_are_counted_for_the_latest_connection(world: World) -> None:
    agent_id = uuid4()

    first, second = 4, 7

    async def connect(epoch: int) -> int:
        return await register_agent(
            world.database, agent_id, name="a", slots=1, partitions=[""], version="1", lease_s=30, epoch=epoch
        )

    number = await connect(first)
    await claim_for(world, number, "a")
    async with world.database.connection() as connection:
        before = await read_renewals(connection)
        assert await renew_leases(connection, {number: first}, 30) == {number}
        between = await read_renewals(connection)
        assert await connect(second) == number
        connected = await read_renewals(connection)
        assert await renew_leases(connection, {number: first}, 30) == set()
        assert await read_renewals(connection) == connected
        assert await renew_leases(connection, {number: second}, 30) == {number}
    assert before[number] < between[number] < connected[number]


async def test_what_lapsed_agents_hold(world: World) -> None:
    lost, alive = await world.agent("lost"), await world.agent("alive")
    tickets = await claim_for(world, lost, "a", "b", "c")
    await claim_for(world, alive, "d")
    await world.cancel("c")
    async with world.database.connection() as connection:
        seen = await read_renewals(connection)
        assert set(seen) == {lost, alive}
        lapsed = {lost: seen[lost]}
        assert sorted(await held_by_lapsed(world.database, lapsed, 100)) == [(ticket, "lost") for ticket in tickets]
        assert len(await held_by_lapsed(world.database, lapsed, 2)) == 2
        rescued = [
            Outcome(ticket, Failed(Failure.ATTEMPT, f"agent {name!r} was lost"))
            for ticket, name in await held_by_lapsed(world.database, lapsed, 100)
        ]
        assert await renew_leases(connection, {lost: 0, alive: 0}, 60) == {lost, alive}
        assert await held_by_lapsed(world.database, lapsed, 100) == []  # it came back just in time
    await world.commit(*rescued)
    assert await world.statuses("a", "b", "c", "d") == ["SUBMITTED", "SUBMITTED", "CANCELLED", "DISPATCHED"]


async def test_a_replica_is_there_while_its_session_is(world: World) -> None:
    session = world.database.own_session()
    agent = await world.agent()
    async with world.database.connection() as watching:
        assert await without_replica(watching, [agent], 1) == {agent}
        async with session.acquire() as connection:
            await introduce_replica(connection, 4711)
            await renew_leases(connection, {agent: 0}, 60, 4711)
            assert await without_replica(watching, [agent], 1) == set()
            assert await without_replica(watching, [agent], 4711) == {agent}
            connection.terminate()
        async with asyncio.timeout(10):
            while not await without_replica(watching, [agent], 1):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


async def test_only_who_is_gone_and_holds_nothing_is_forgotten(world: World) -> None:
    day = 24 * 3600
    await world.agent("gone", lease_s=-2 * day)
    holding = await world.agent("holding", lease_s=-2 * day)
    await world.agent("recent", lease_s=-day / 2)
    await world.agent("alive")
    await claim_for(world, holding, "a")
    await forget_agents(world.database)
    assert await world.rows("select name from agents order by agent_no") == [("holding",), ("recent",), ("alive",)]
