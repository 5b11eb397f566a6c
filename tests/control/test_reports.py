"""Outcomes while the database says no: kept and stored later, or refused for what is wrong with them alone."""

import asyncio
import time
from pathlib import Path

import asyncpg
import grpc.aio
import pytest

from control.replica import BareAgent, Served, serving, until
from ripieno.control.agents import reports
from ripieno.domain.statuses import TaskStatus
from ripieno.store.sessions.changes import Changes
from ripieno.wire.protos.v1 import agent_pb2
from store.world import task

#: Says no to the end of some tasks (by their number) with some SQLSTATE.
SAY_NO = """
create function say_no() returns trigger language plpgsql as $$
begin raise exception 'no' using errcode = '{state}'; end $$;
create trigger say_no before update on states for each row when (new.claim is null and new.task_no = any('{{{tasks}}}'))
execute function say_no()
"""
SAY_YES = "drop trigger say_no on states; drop function say_no"

OURS = ["53100", "25006", "57014", "55P03", "58030", "XX000", "P0001", "40P01", "ZZ999"]
ITS_OWN = ["22003", "23514", "54000"]


async def working(agent: BareAgent, served: Served, *names: str) -> list[agent_pb2.Ticket]:
    """Let the agent have these tasks."""
    await agent.hello(credit=len(names))
    await served.world.submit(*(task(name, f"result of {name}") for name in names))
    served.replica._dispatcher.changed_here(Changes(partitions={""}))
    await agent.until(lambda: len(agent.assigned) == len(names))
    return agent.assigned


async def report(agent: BareAgent, number: int, *tickets: agent_pb2.Ticket) -> None:
    """The agent says that these have completed."""
    columns = agent_pb2.Completions()
    for ticket in tickets:
        columns.task_nos.append(ticket.task_no)
        columns.session_nos.append(ticket.session_no)
        columns.claims.append(ticket.claim)
        columns.started_at_us.append(1)
        columns.workers.append("w")
        columns.result_counts.append(0)
    await agent.say(outcomes_no=number, completions=columns)


async def execute(served: Served, script: str) -> None:
    async with served.world.database.connection() as connection:
        await connection.execute(script)


def settled(agent: BareAgent) -> list[int]:
    return [number for message in agent.said for number in message.settled]


@pytest.mark.parametrize("state", OURS)
async def test_what_is_not_the_outcomes_fault_is_tried_again(
    served: Served, channel: grpc.aio.Channel, state: str
) -> None:
    agent = BareAgent(channel)
    [ticket] = await working(agent, served, "t")
    await execute(served, SAY_NO.format(state=state, tasks=ticket.task_no))
    await report(agent, 1, ticket)
    began = time.monotonic()
    health = served.replica.health
    async with asyncio.timeout(10):
        while "committing outcomes" not in health.faults:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    assert settled(agent) == []
    await execute(served, SAY_YES)
    await agent.until(lambda: settled(agent) == [1])
    assert await served.world.statuses("t") == [TaskStatus.COMPLETED.name]
    assert len(agent.assigned) == 1
    assert health.well
    assert time.monotonic() - began < 15
    agent.leave()


@pytest.mark.parametrize("state", ITS_OWN)
async def test_what_cannot_be_stored_fails_its_own_task_alone(
    served: Served, channel: grpc.aio.Channel, state: str
) -> None:
    agent = BareAgent(channel)
    first, *others = await working(agent, served, "a", "b", "c")
    await execute(
        served, SAY_NO.format(state=state, tasks=first.task_no).replace("new.claim is null", "new.status = 10")
    )
    await report(agent, 1, first, *others)
    await agent.until(lambda: settled(agent) == [1])
    assert sorted(await served.world.statuses("a", "b", "c")) == ["COMPLETED", "COMPLETED", "ERROR"]
    await execute(served, SAY_YES)
    agent.leave()


async def test_an_outcome_that_meets_a_bug_of_ours_holds_up_no_other(served: Served, channel: grpc.aio.Channel) -> None:
    agent = BareAgent(channel)
    first, *others = await working(agent, served, "a", "b", "c")
    await execute(served, SAY_NO.format(state=asyncpg.PostgresSyntaxError.sqlstate, tasks=first.task_no))
    await report(agent, 1, first)
    await report(agent, 2, *others)
    await agent.until(lambda: settled(agent) == [2])
    await execute(served, SAY_YES)
    await agent.until(lambda: settled(agent) == [2, 1])
    assert await served.world.statuses("a", "b", "c") == ["COMPLETED"] * 3
    agent.leave()


async def test_what_meets_a_bug_after_it_was_stored_is_settled_all_the_same(
    served: Served, channel: grpc.aio.Channel
) -> None:
    agent = BareAgent(channel)
    [ticket] = await working(agent, served, "t")
    fails = [True]

    def subscriber(_changes: Changes) -> None:
        if fails:
            fails.clear()
            raise ZeroDivisionError("a bug of whoever listens")

    served.replica._agents._notices.subscribe(local=subscriber)
    await report(agent, 1, ticket)
    await agent.until(lambda: settled(agent) == [1])
    assert not fails
    assert await served.world.statuses("t") == [TaskStatus.COMPLETED.name]
    agent.leave()


async def test_a_rescue_that_meets_a_bug_holds_up_no_other(database_url: str, tmp_path: Path) -> None:
    """Neither those of the same agent, nor those of agents that are lost later."""
    async with serving(database_url, tmp_path / "objects", lease_s=1) as served:
        await served.world.session()
        for names in (("a", "b"), ("c",)):
            async with served.connect() as channel:
                agent = BareAgent(channel)
                tickets = await working(agent, served, *names)
                if "a" in names:
                    state = asyncpg.PostgresSyntaxError.sqlstate
                    await execute(served, SAY_NO.format(state=state, tasks=tickets[0].task_no))
                agent.leave()
            async with asyncio.timeout(30):
                while await served.world.statuses(names[-1]) != ["SUBMITTED"]:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.05)
        assert await served.world.statuses("a") == ["DISPATCHED"]
        await execute(served, SAY_YES)
        async with asyncio.timeout(60):
            while await served.world.statuses("a") != ["SUBMITTED"]:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)


async def test_agents_are_not_heard_while_too_much_of_what_they_said_is_unwritten(
    monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    most, each, count = 1_000_000, 200_000, 60
    monkeypatch.setattr(reports, "_MOST_UNWRITTEN_BYTES", most)
    async with serving(database_url, tmp_path / "objects") as served, served.connect() as channel:
        await served.world.session()
        agent = BareAgent(channel)
        tickets = await working(agent, served, *(f"t{number}" for number in range(count)))
        numbers = ",".join(str(ticket.task_no) for ticket in tickets)
        await execute(served, SAY_NO.format(state="53100", tasks=numbers))
        writing = asyncio.create_task(_report_much(agent, each))
        [backlog] = [part._backlog for part in served.replica._parts if isinstance(part, reports.Reports)]
        await until(lambda: backlog.held > most and "committing outcomes" in served.replica.health.faults)
        await asyncio.wait([writing], timeout=1.0)
        assert not writing.done()
        assert backlog.held < 2 * most
        await execute(served, SAY_YES)
        await agent.until(lambda: sorted(settled(agent)) == list(range(1, count + 1)))
        await writing
        await until(lambda: backlog.held == 0)
        agent.leave()


async def _report_much(agent: BareAgent, size: int) -> None:
    """The agent completes all that it was assigned, each task in a message of its own, with a result of so many bytes."""
    keys = [key for message in agent.said for key in message.plain.expected_output_keys]
    for number, (ticket, key) in enumerate(zip(agent.assigned, keys, strict=True), 1):
        outcome = agent_pb2.Outcome(ticket=ticket, worker="w", started_at_us=1)
        outcome.completed.results.add(key=key, data=agent_pb2.Data(inline=bytes(size)))
        await agent.say(outcomes_no=number, outcomes=[outcome])
