"""Cancellation: at once for what waits, on its agent's word for what runs."""

import asyncio
from typing import Any

import pytest

from ripieno.store.attempts.attempts import mark_interrupting_if_owned, mark_started_if_owned, release_if_owned
from ripieno.store.attempts.confirmations import unconfirmed_in_sessions, unconfirmed_of_tasks
from ripieno.store.database.queries import Queries
from ripieno.store.graph.cancel import cancel_tasks
from store.world import AGENT, World, done, failed, over, task, until_one_waits, whole


async def test_what_waits_what_runs_and_what_is_done(world: World) -> None:
    finished, running = await world.begin(task("finished", "kf"), task("running", "kr"))
    await world.commit(done(finished, {"kf": b"1"}))
    await world.submit(task("ready", "k1"), task("waiting", "k2", needs=["never"]), task("after", needs=["kr"]))
    changes = await world.cancel_session()
    ids = ["finished", "running", "ready", "waiting", "after"]
    assert await world.statuses(*ids) == ["COMPLETED", "CANCELLING", "CANCELLED", "CANCELLED", "CANCELLED"]
    assert await world.results("kf", "kr", "k1", "k2") == ["COMPLETED", "ABORTED", "ABORTED", "ABORTED"]
    assert changes.cancelled == [(AGENT, running.ticket)]
    assert await world.claim() == {}
    await world.commit(over(running.ticket))
    assert await world.statuses("running") == ["CANCELLED"]
    assert await world.data("kf") == b"1"


async def test_any_number_of_times_with_or_without_tasks(world: World) -> None:
    await world.session("empty")
    for _ in range(3):
        assert (await world.cancel_session("empty")).sessions == set()
    [running] = await world.begin(task("a", "ka"))
    assert len((await world.cancel_session()).cancelled) == 1
    assert (await world.cancel_session()).cancelled == []
    assert await world.rows("select count(*) from sessions where cancelled_at is not null") == [(2,)]
    await world.commit(over(running.ticket))


async def test_an_outcome_after_the_cancel_is_refused(world: World) -> None:
    a, b = await world.begin(task("a", "ka"), task("b", "kb"))
    await world.cancel("a", "b")
    changes = await world.commit(done(a, {"ka": b"1"}), failed(b))
    assert changes.completed == {} and changes.partitions == set()
    assert await world.statuses("a", "b") == ["CANCELLED", "CANCELLED"]
    assert await world.results("ka", "kb") == ["ABORTED", "ABORTED"]


async def test_tasks_alone_and_their_dependents(world: World) -> None:
    await world.submit(task("a", "ka"), task("b", "kb", needs=["ka"]), task("c", "kc"))
    changes = await world.cancel("a", "a", "unknown")
    assert await world.statuses("a", "b", "c") == ["CANCELLED", "ERROR", "SUBMITTED"]
    assert await world.reasons("b") == [("ERROR", "input 'ka' was aborted: task 'a' ended in CANCELLED: cancelled")]
    assert list(changes.aborted) == [await world.number()]
    assert (await world.cancel("a", "b")).sessions == set()
    await world.submit(task("d"))
    assert list(await world.claim()) == ["c", "d"]


async def test_dependents_of_a_running_task_fail_at_once_and_say_cancelled(world: World) -> None:
    [a] = await world.begin(task("a", "ka"))
    await world.submit(task("b", "kb", needs=["ka"]))
    await world.cancel("a")
    assert await world.reasons("b") == [("ERROR", "input 'ka' was aborted: task 'a' ended in CANCELLED: cancelled")]
    assert await world.reasons("a") == [("CANCELLED", "cancelled")]
    await world.commit(over(a.ticket))


async def test_tasks_of_several_sessions(world: World) -> None:
    await world.session("other")
    await world.submit(task("a"))
    await world.submit(task("b"), session_id="other")
    await world.cancel("b", "a")
    assert await world.statuses("a", "b") == ["CANCELLED", "CANCELLED"]
    assert (await whole(cancel_tasks(world.database, []))).sessions == set()


async def test_it_takes_a_retry_that_waits(world: World) -> None:
    [a] = await world.begin(task("a", "ka"))
    await world.commit(failed(a, "first"))
    await world.cancel("a")
    assert await world.statuses("a") == ["CANCELLED"]
    assert await world.reasons("a") == [("ERROR", "first"), ("CANCELLED", "cancelled")]


async def test_the_agent_says_whether_it_had_begun(world: World) -> None:
    begun, marked, never = await world.begin(task("a"), task("b"), task("c"))
    await mark_started_if_owned(world.database, [(begun.ticket, 1_000_000, "w")])
    await world.cancel_session()
    tasks, number = [each.ticket.task_no for each in (begun, marked, never)], await world.number()

    async def unconfirmed() -> int:
        count = await unconfirmed_of_tasks(world.database, tasks)
        assert count == await unconfirmed_in_sessions(world.database, [number])
        return count

    assert await unconfirmed() == 2
    changes = await mark_interrupting_if_owned(world.database, [marked.ticket])
    assert changes.sessions == {number}
    assert await unconfirmed() == 1
    _, refused = await release_if_owned(world.database, [never.ticket])
    assert refused == [never.ticket]
    await world.commit(over(never.ticket))
    assert await unconfirmed() == 0
    assert await world.statuses("a", "b", "c") == ["CANCELLING", "CANCELLING", "CANCELLED"]
    await world.commit(over(begun.ticket), over(marked.ticket))


async def test_a_cancel_that_meets_claims_and_starts(world: World) -> None:
    """The counts are those of the latest version of each row, not of the snapshot (INV-12)."""
    for n in range(10):
        name = f"round {n}"
        await world.session(name)
        await world.submit(*(task(f"{name} {i}", f"k{i}") for i in range(40)), session_id=name)

        async def work() -> None:
            while claimed := await world.claim(8):
                await mark_started_if_owned(world.database, [(each.ticket, 1, "w") for each in claimed.values()])

        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            cancelled = group.create_task(world.cancel_session(name))
        await world.commit(*(over(ticket) for _, ticket in cancelled.result().cancelled))
    assert await world.rows("select distinct status from states") == [(13,)]
    assert world.database.crossings == 0


async def test_a_cancel_that_waits_for_a_claim(world: World) -> None:
    await world.submit(task("a", "ka"))
    async with world.database.connection() as connection:
        await connection.execute("begin")
        await connection.fetch(Queries("claim").claim, "", 1, 40, [AGENT])
        cancel = asyncio.create_task(world.cancel("a"))
        await until_one_waits(world)
        await connection.execute("commit")
    [(agent_no, ticket)] = (await cancel).cancelled
    assert agent_no == AGENT
    assert await world.statuses("a") == ["CANCELLING"]
    await world.commit(over(ticket))


@pytest.mark.parametrize(("tasks", "long"), [(3, False), (100, True)])
async def test_only_a_step_that_was_not_enough_makes_the_next_one_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, tasks: int, long: bool
) -> None:
    turns, waited = world.database.turns, list[bool]()
    take = turns.take

    async def noted(*arguments: Any, goes_on: bool = False, **others: Any) -> Any:
        waited.append(goes_on)
        return await take(*arguments, goes_on=goes_on, **others)

    monkeypatch.setattr(turns, "take", noted)
    turns.size = 16
    await world.submit(*(task(f"t{n}", f"k{n}") for n in range(tasks)))
    await world.cancel_session()
    assert waited[:2] == [False, False]  # the mark, and the first step
    assert all(waited[2:-1]) and any(waited) is long
    assert set(await world.statuses(*(f"t{n}" for n in range(tasks)))) == {"CANCELLED"}
