"""How attempts fail, and what their handlers attach to that for programs, from a worker to a client."""

import asyncio

import pytest

from agreement.scripts import task
from agreement.stage import Stage, unique
from ripieno.client import Client, NotFoundError, TaskStatus


async def test_a_handler_s_value_reaches_whoever_asks_for_the_failure(stage: Stage) -> None:
    """The original protocol has no place for it: a worker that serves that alone tells the text."""
    session = await stage.session(max_retries=1)
    name = unique("carries")
    await session.submit(task(name, ["raise_with", "boom", "the value", False]))
    final = await session.submit(task(unique("final"), ["raise_with", "for good", "its value", True]))
    below = await session.submit(task(unique("below"), ["give", "x"], needs=[name]))
    assert await session.wait(timeout=60) == {TaskStatus.ERROR: 3}
    carried = None if stage.lane.single else b"the value"
    for attempt in (0, 1):
        failure = await session.failure(name, attempt)
        assert (failure.task_id, failure.attempt, failure.status) == (name, attempt, TaskStatus.ERROR)
        assert failure.value == carried and failure.detail.endswith("RuntimeError: boom")
        assert failure.agent and failure.worker.startswith(failure.agent)
        assert failure.started_at is not None and failure.ended_at is not None
    assert await session.failure(name) == await session.failure(f"{name}###1")
    told = await final.failure()
    assert (told.attempt, told.detail, told.value) == (0, "for good", carried and b"its value")
    blamed = await below.failure()
    assert (blamed.failed_input, blamed.root_task_id, blamed.value) == (name, name, None)
    assert (await session.failure(blamed.root_task_id)).value == carried


async def test_what_has_not_failed_is_told(one_stage: Stage) -> None:
    session = await one_stage.session()
    fine = await session.submit(task(unique("fine"), ["give", "x"]))
    assert await fine.result(timeout=60) == b"x"
    with pytest.raises(NotFoundError, match=rf"no attempt of task '{fine.id}' has failed; the task is COMPLETED"):
        await fine.failure()
    with pytest.raises(NotFoundError, match=rf"attempt 0 of task '{fine.id}' has not failed"):
        await fine.failure(0)
    with pytest.raises(NotFoundError, match=rf"task '{fine.id}' has no attempt 7; its latest is 0"):
        await session.failure(fine, 7)
    with pytest.raises(NotFoundError, match="there is no task 'unknown'"):
        await session.failure("unknown")


async def test_a_program_without_an_event_loop_is_told_the_same(one_stage: Stage) -> None:
    session = await one_stage.session()
    handle = await session.submit(task(unique("blocking"), ["raise_with", "boom", "value", True]))
    await session.wait(timeout=60)

    def ask() -> bytes | None:
        with Client(one_stage.process.address) as client:
            return client.open_session(session.id).failure(handle.id).value

    assert await asyncio.to_thread(ask) == b"value"
