"""What one session may hold: tasks that are not final, bytes of data, sets of options."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from control.replica import Served
from control.test_limits import refusal, tasks
from ripieno.client import AsyncClient, LimitError, TaskOptions
from ripieno.config import Limits
from ripieno.control.calls.limits import ControlLimits
from ripieno.control.calls.quotas import Quotas
from ripieno.domain import options
from ripieno.domain.errors import OverloadedError
from ripieno.domain.outcomes import Completed, Outcome, SubTasks
from ripieno.store.sessions.counts import Usage, read_usage
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2_grpc
from store.world import World, done, task

LIMITS = Limits(unfinished_per_session=10, bytes_per_session=1_000, options_per_session=3)


@pytest_asyncio.fixture
async def submitter(limited: Served) -> AsyncIterator[Any]:
    async with limited.connect() as channel:
        yield submitter_service_pb2_grpc.SubmitterStub(channel)


async def test_unfinished_tasks(limited: Served, submitter: Any) -> None:
    await submitter.CreateSmallTasks(tasks(10))
    assert await refusal(submitter.CreateSmallTasks(tasks(3, first=10))) == (
        "limit unfinished_per_session is 10, and this asks for 3 beside 10 unfinished tasks of one session;"
        " submit more when some have ended, or open another session"
    )
    assert await limited.world.rows("select count(*) from tasks") == [(10,)]
    await limited.world.session("other")
    other = tasks(1, first=20)
    other.session_id = "other"
    await submitter.CreateSmallTasks(other)
    claimed = await limited.world.claim(3)
    await limited.world.commit(*(done(claimed[f"t{n}"], {f"k{n}": b"v"}) for n in range(3)))
    await submitter.CreateSmallTasks(tasks(3, first=10))


async def test_the_client_waits_until_tasks_have_ended(limited: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = asyncio.Event()
    refuse = Quotas.refusal

    async def noted(self: Quotas, *arguments: int) -> OverloadedError | None:
        if refusal := await refuse(self, *arguments):
            refused.set()
        return refusal

    monkeypatch.setattr(Quotas, "refusal", noted)
    async with AsyncClient(limited.address, patience=60) as client, asyncio.timeout(30):
        session = await client.open_session("s")
        first, *_ = await session.submit_many([b""] * 10)
        more = asyncio.create_task(session.submit(b"more", id="more"))
        await refused.wait()
        await session.cancel_tasks([first])
        await more


async def test_stored_bytes(limited: Served, submitter: Any) -> None:
    await submitter.CreateSmallTasks(tasks(2, payload=bytes(300)))
    said = await refusal(submitter.CreateSmallTasks(tasks(2, first=2, payload=bytes(300))))
    assert said.startswith("limit bytes_per_session is 1,000, and this asks for 600 beside 600 bytes of payloads")
    await limited.world.commit(done((await limited.world.claim(1))["t0"], {"k0": bytes(350)}))
    assert await read_usage(limited.world.database, await limited.world.number()) == Usage(1, 950)
    await refusal(submitter.CreateSmallTasks(tasks(1, first=2, payload=bytes(60))))
    await submitter.CreateSmallTasks(tasks(1, first=2, payload=bytes(50)))


async def test_sets_of_options(limited: Served) -> None:
    async with AsyncClient(limited.address, patience=5) as client:
        session = await client.open_session("s")
        for priority in (2, 3, 2, 3):
            await session.submit(b"", task_options=TaskOptions(priority=priority))
        with pytest.raises(LimitError, match="limit options_per_session is 3, and this asks for 4 sets") as refused:
            await session.submit(b"", task_options=TaskOptions(priority=4))
        assert refused.value.limit == "options_per_session"


async def test_sub_tasks_with_one_set_of_options_too_many_fail_their_parent_for_good(limited: Served) -> None:
    world = limited.world
    await world.submit(task("parent", "kp"))
    parent = (await world.claim())["parent"]
    batches = [SubTasks(options.TaskOptions(1_000_000, 0, priority), [task(f"c{priority}")]) for priority in (2, 3, 4)]
    await limited.reports.commit([Outcome(parent.ticket, Completed([("kp", b"v")], batches))])
    assert await world.statuses("parent") == ["ERROR"]  # it would ask for the same if it ran again
    [(_, reason)] = await world.reasons("parent")
    assert reason.startswith(
        "its sub-tasks were refused: limit options_per_session is 3, and this asks for 4 sets of task options in one"
        " session; put what differs"
    )
    assert await world.rows("select count(*) from tasks") == [(1,)]


async def test_an_attempt_with_too_many_sub_tasks_fails_and_makes_none(limited: Served) -> None:
    world = limited.world
    await world.submit(task("parent", "kp"))
    parent = (await world.claim())["parent"]
    children = [task(f"c{number}") for number in range(10)]
    await limited.reports.commit([Outcome(parent.ticket, Completed([("kp", b"v")], [SubTasks(None, children)]))])
    assert await world.statuses("parent") == ["SUBMITTED"]  # there may be room when it is tried again
    [(_, reason)] = await world.reasons("parent")
    assert reason.startswith(
        "its sub-tasks were refused: limit unfinished_per_session is 10, and this asks for 10 beside 1"
    )
    assert await world.rows("select count(*) from tasks") == [(1,)]


async def test_a_session_that_holds_little_costs_no_look(world: World) -> None:
    quotas = Quotas(ControlLimits(Limits(unfinished_per_session=640, bytes_per_session=64_000)), world.database)
    looks = 0
    fetchrow = world.database.fetchrow

    async def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return await fetchrow(*arguments)

    world.database.fetchrow = counted  # type: ignore[method-assign, assignment]
    for _ in range(10):
        await quotas.admit(1, 1, 100)
    assert looks == 0
    for _ in range(100):
        await quotas.admit(1, 1, 100)
    assert looks == 10
