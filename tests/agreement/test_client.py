"""Golden scenarios of the Submitter alone, through the client: G12 to G14, G16, G18, G19, G22."""

import asyncio

import pytest

from agreement.scripts import script, task
from agreement.stage import Seen, Stage, unique
from ripieno.client import (
    AlreadyExistsError,
    Client,
    InvalidRequestError,
    NotFoundError,
    ResultStatus,
    SessionCancelledError,
    TaskFailedError,
    TaskOptions,
    TaskStatus,
)

COMPLETED = TaskStatus.COMPLETED


@pytest.mark.parametrize("cancelled", [False, True])
async def test_g12_a_session_twice(one_stage: Stage, cancelled: bool) -> None:
    session = await one_stage.session()
    if cancelled:
        await session.cancel()
    with pytest.raises(AlreadyExistsError, match=session.id):
        await one_stage.session(id=session.id)


async def test_g13_a_task_twice(one_stage: Stage) -> None:
    session, name, other = await one_stage.session(), unique("g13"), unique("g13-other")
    original = task(name, ["give", "original"])
    handle = await session.submit(original)

    with pytest.raises(AlreadyExistsError, match=name):
        await session.submit_many([task(other, ["give", "x"]), task(name, ["give", "another"])])
    with pytest.raises(AlreadyExistsError, match=name):
        await session.submit(original, task_options=TaskOptions(priority=2))
    await session.submit(original)

    assert await one_stage.seen(handle) == Seen(COMPLETED, b"original")
    await session.submit(original)
    assert await session.status() == {name: COMPLETED}
    # Options that equal the session's are the same as none; and a lost reply may be asked for again at any time.
    await session.submit(original, task_options=session.task_options)
    await session.cancel()
    await session.submit(original)


async def test_tasks_in_a_circle_wait_until_they_are_cancelled(one_stage: Stage) -> None:
    session, one, other = await one_stage.session(), unique("circle"), unique("circle")
    await session.submit_many([task(one, ["total", 1], needs=[other]), task(other, ["total", 1], needs=[one])])
    assert await session.counts() == {TaskStatus.SUBMITTED: 2}

    await session.cancel_tasks([one, other])

    assert await session.wait(timeout=5) == {TaskStatus.CANCELLED: 2}


async def test_g14_a_result_of_another_task(one_stage: Stage) -> None:
    session, other = await one_stage.session(), await one_stage.session()
    owner, thief, friend = (unique(f"g14-{who}") for who in ("owner", "thief", "friend"))
    handle = await session.submit(task(owner, ["give", "mine"], keys=["key"]))

    with pytest.raises(AlreadyExistsError, match="key"):
        await session.submit_many([task(friend, ["give", "x"]), task(thief, ["give", "x"], keys=["own", "key"])])

    assert await session.status([thief, friend]) == {}
    assert await session.result_status(["own", friend]) == {}
    assert await one_stage.seen(handle) == Seen(COMPLETED, b"mine")
    in_the_other = await other.submit(task(thief, ["give", "keys are per session"], keys=["key"]))
    assert await one_stage.seen(in_the_other) == Seen(COMPLETED, b"keys are per session")


async def test_g16_cancelling_unknown_twice_and_empty(one_stage: Stage) -> None:
    with pytest.raises(NotFoundError, match="g16"):
        await one_stage.client.open_session(unique("g16"))
    session = await one_stage.session()
    await session.cancel()
    await session.cancel()
    opened = await one_stage.client.open_session(session.id)
    with pytest.raises(SessionCancelledError, match=session.id):
        await opened.submit(script(["give", "x"]))


async def test_g18_and_g19_unknown_ids_are_left_out(one_stage: Stage) -> None:
    session, known, unknown = await one_stage.session(), unique("g18"), unique("g18-unknown")
    await one_stage.seen(await session.submit(task(known, ["give", "x"])))

    assert await session.status([unknown, known]) == {known: COMPLETED}
    assert await session.result_status([unknown, known]) == {known: ResultStatus.COMPLETED}
    await session.cancel_tasks(unknown)
    assert await session.wait([unknown], timeout=5) == {}
    assert await session.wait([unknown, known], timeout=5) == {COMPLETED: 1}
    assert await (await one_stage.session()).wait(timeout=5) == {}


async def test_g22_results_that_nobody_announced(one_stage: Stage) -> None:
    session, unknown = await one_stage.session(), unique("g22")
    with pytest.raises(NotFoundError, match=unknown):
        await session.result(unknown, timeout=5)
    [result] = [result async for result in session.results([unknown], timeout=5)]
    assert isinstance(result.error, NotFoundError)


@pytest.mark.parametrize(
    ("definition", "options", "named"),
    [
        (task(" ", ["give", "x"]), None, "id"),
        (task("i" * 1_025, ["give", "x"]), None, "id"),
        (task("with\0nul", ["give", "x"]), None, "id"),
        (task("t", ["give", "x"], keys=["k", "k"]), None, "expected_output_keys"),
        (task("t", ["give", "x"], keys=["k"], needs=["k"]), None, "data_dependencies"),
        (task("t", ["give", "x"], needs=[""]), None, "dependencies"),
        (task("t", ["give", "x"]), TaskOptions(priority=100), "priority"),
        (task("t", ["give", "x"]), TaskOptions(max_retries=-1), "max_retries"),
        (task("t", ["give", "x"]), TaskOptions(max_duration=0), "max_duration"),
    ],
)
async def test_what_breaks_a_rule_is_refused(
    one_stage: Stage, definition: object, options: TaskOptions | None, named: str
) -> None:
    session = await one_stage.session()
    with pytest.raises(InvalidRequestError, match=named):
        await session.submit(definition, task_options=options)  # type: ignore[arg-type]
    assert await session.task_ids() == []


async def test_the_blocking_client_sees_the_same(stage: Stage) -> None:
    name = unique("blocking")

    def work() -> tuple[list[bytes], list[str], dict[TaskStatus, int]]:
        with Client(stage.client.address) as client:
            session = client.session(partition=stage.lane.partition, max_retries=0, max_duration=30)
            tasks = session.submit_many([script(["give", f"{number}"]) for number in range(50)])
            found = {result.task.id: result.data for result in session.results(tasks, timeout=30)}
            failing = session.submit(task(name, ["error", "boom"]))
            with pytest.raises(TaskFailedError) as failure:
                failing.result(timeout=30)
            session.wait(timeout=30)
            details = [each.detail for each in failure.value.attempts]
            return [found[one.id] for one in tasks], details, session.counts()

    results, details, counts = await asyncio.to_thread(work)

    assert results == [b"%d" % number for number in range(50)]
    assert details == ["boom"]
    assert counts == {COMPLETED: 50, TaskStatus.ERROR: 1}
