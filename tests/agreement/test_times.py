"""Times of tasks, from the client to the worker and back: delays, pauses between attempts, deadlines."""

from datetime import UTC, datetime, timedelta

import pytest

from agreement.scripts import sub_task, task
from agreement.stage import Stage, unique
from protocol.deadlines import eventually
from ripieno.client import (
    AsyncTask,
    ConflictError,
    InvalidRequestError,
    OptionChanges,
    TaskFailedError,
    TaskOptions,
    TaskStatus,
)

COMPLETED, TIMEOUT = TaskStatus.COMPLETED, TaskStatus.TIMEOUT
_SOON_S = 60.0


def of(stage: Stage, **options: object) -> TaskOptions:
    """Options of tasks for this lane."""
    return TaskOptions(**{"max_retries": 0, "max_duration": 60, "partition": stage.lane.partition, **options})  # type: ignore[arg-type]


async def waited(stage: Stage, task_id: str) -> timedelta:
    """How long after its submission a task was claimed."""
    [row] = [row async for row in stage.client.list_tasks(f"id='{task_id}'")]
    assert row.claimed_at is not None
    return row.claimed_at - row.submitted_at


async def test_a_delayed_task_and_a_delayed_sub_task(one_stage: Stage) -> None:
    session, parent, child = await one_stage.session(), unique("parent"), unique("child")
    options = {
        "max_duration_us": 60_000_000,
        "max_retries": 0,
        "priority": 1,
        "options": {"ripieno.delay": "0.5"},
    }
    if one_stage.lane.partition is not None:
        options["options"] |= {"partition": one_stage.lane.partition}  # type: ignore[operator]
    given = await session.submit(
        task(parent, ["submit", [sub_task(child, ["give", "late"], keys=[parent])], options]),
        task_options=of(one_stage, delay=0.5),
    )
    assert await given.result(timeout=_SOON_S) == b"late"
    for name in (parent, child):
        assert await waited(one_stage, name) >= timedelta(seconds=0.5)


async def test_attempts_back_off(one_stage: Stage) -> None:
    session, name = await one_stage.session(), unique("backs off")
    given = await session.submit(
        task(name, ["fail", "not yet", 2], ["give", "at last"]),
        task_options=of(one_stage, max_retries=2, retry_first_delay=0.3, retry_factor=3.0),
    )
    assert await given.result(timeout=_SOON_S) == b"at last"
    first, second, third = [row async for row in one_stage.client.list_attempts(f"task_id='{name}'")]
    assert first.ended_at and second.claimed_at and second.ended_at and third.claimed_at
    assert second.claimed_at - first.ended_at >= timedelta(seconds=0.3)
    assert third.claimed_at - second.ended_at >= timedelta(seconds=0.9)


async def test_a_deadline_of_a_task_that_waits_and_its_retry(one_stage: Stage) -> None:
    session, name = await one_stage.session(), unique("waits")
    given = await session.submit(
        task(name, ["give", "never"], needs=[unique("nobody makes it")]), task_options=of(one_stage, deadline=0.3)
    )
    with pytest.raises(TaskFailedError, match=r"its deadline \(.*Z\) passed while it waited"):
        await given.result(timeout=_SOON_S)
    assert await given.status() is TIMEOUT
    await given.retry(OptionChanges(deadline=datetime.now(UTC) - timedelta(days=1)))
    with pytest.raises(TaskFailedError) as failure:
        await given.result(timeout=_SOON_S)
    assert [each.status for each in failure.value.attempts] == [TIMEOUT, TIMEOUT]
    await given.retry(OptionChanges(deadline=3600))
    [row] = [row async for row in one_stage.client.list_tasks(f"id='{name}'")]
    assert row.deadline is not None and row.deadline > datetime.now(UTC) + timedelta(minutes=50)
    assert row.starts_at is None and row.unmet_dependencies == 1
    with pytest.raises(ConflictError):  # its options are others now
        await session.submit(task(name, ["give", "never"], needs=[]), task_options=of(one_stage, deadline=0.3))


async def test_a_deadline_of_a_task_that_runs(stage: Stage) -> None:
    """Its worker is interrupted, and has the next task."""
    session = await stage.session()

    async def held_until(deadline: float) -> tuple[AsyncTask, bool]:
        gate = stage.gate()
        given = await session.submit(
            task(unique("runs"), ["hold", str(gate.path)]), task_options=of(stage, max_retries=3, deadline=deadline)
        )

        async def ended() -> bool:
            return (await given.status()).name in ("CANCELLING", "TIMEOUT")

        await eventually(ended, "the deadline has passed")
        return given, gate.path.with_name(f"{gate.path.name}.begun").exists()

    deadline = 1.0
    given, began = await held_until(deadline)
    while not began:  # a busy machine takes longer to begin it
        deadline *= 3
        given, began = await held_until(deadline)
    with pytest.raises(TaskFailedError, match=r"its deadline \(.*Z\) passed while it (ran|was dispatched)") as failure:
        await given.result(timeout=_SOON_S)
    await session.wait(given, timeout=_SOON_S)
    assert await given.status() is TIMEOUT and len(failure.value.attempts) == 1
    assert await (await session.submit(task(unique("next"), ["give", "next"]))).result(timeout=_SOON_S) == b"next"


async def test_what_is_no_time_is_refused(one_stage: Stage) -> None:
    session = await one_stage.session()
    for free in ({"ripieno.delay": "soon"}, {"ripieno.dealine": "5"}):
        with pytest.raises(InvalidRequestError, match=next(iter(free))):
            await session.submit(task(unique("never"), ["give", ""]), task_options=of(one_stage, options=free))
    with pytest.raises(InvalidRequestError, match="never start"):
        await session.submit(task(unique("never"), ["give", ""]), task_options=of(one_stage, delay=9, deadline=5))
