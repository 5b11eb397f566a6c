"""Retries: what failed runs again under its id, what failed only because of it follows, and the history stays."""

import asyncio

import pytest

from agreement.scripts import task
from agreement.stage import Stage, unique
from ripieno.client import (
    AsyncSession,
    Client,
    ConflictError,
    InvalidRequestError,
    OptionChanges,
    Retried,
    SessionCancelledError,
    TaskFailedError,
    TaskStatus,
)

COMPLETED, ERROR, TIMEOUT = TaskStatus.COMPLETED, TaskStatus.ERROR, TaskStatus.TIMEOUT
DEPTH = 5


async def chain(session: AsyncSession, stem: str, needed: str) -> list[str]:
    """A task that fails until a file is there, and a chain of others below it that adds up; their ids."""
    names = [f"{stem} {place}" for place in range(DEPTH)]
    tasks = [task(names[0], ["require", needed], ["total", 1])]
    tasks += [task(name, ["total", 1], needs=[names[place]]) for place, name in enumerate(names[1:])]
    await session.submit_many(tasks)
    return names


async def test_a_chain_below_a_task_that_fails_until_its_file_is_there(stage: Stage) -> None:
    session, stem, file = await stage.session(), unique("chain"), stage.folder / unique("needed")
    names = await chain(session, stem, str(file))
    assert await session.wait(timeout=60) == {ERROR: DEPTH}
    with pytest.raises(TaskFailedError, match="misses its file"):
        await session.result(names[-1])

    # In vain: the file is still not there, and both attempts are told.
    # (The task may fail again before all that is below it waits again.)
    assert (await session.retry_failed()).retried == 1
    assert await session.wait(timeout=60) == {ERROR: DEPTH}
    with pytest.raises(TaskFailedError) as caught:
        await session.result(names[0])
    attempts = [(each.status, each.detail.splitlines()[-1]) for each in caught.value.attempts]
    assert attempts == [
        (ERROR, f"RuntimeError: attempt {name!r} misses its file") for name in (names[0], f"{names[0]}###1")
    ]

    file.touch()
    assert await session.retry_failed() == Retried(1, DEPTH - 1, 0, {})
    assert await asyncio.wait_for(session.result(names[-1]), 60) == str(DEPTH).encode()
    assert await session.wait(timeout=60) == {COMPLETED: DEPTH}
    # What each attempt printed is still its own.
    for attempt, name in enumerate([names[0], f"{names[0]}###1", f"{names[0]}###2"]):
        assert (await session.output(names[0], attempt)).stdout == f"{name}\n".encode()
    assert await session.retry_failed() == Retried(0, 0, 0, {})


async def test_one_task_with_another_time_limit(one_stage: Stage) -> None:
    session, gate = await one_stage.session(max_duration=0.2), one_stage.gate()
    first, second = await session.submit_many(
        [
            task(name := unique("slow"), ["hold", str(gate.path)], ["give", "done"]),
            task(unique("after"), ["tell"], needs=[name]),
        ]
    )
    assert await session.wait(timeout=60) == {TIMEOUT: 1, ERROR: 1}
    with pytest.raises(ConflictError, match=r"it cannot run: input 'slow.* ended in TIMEOUT"):
        await second.retry()
    await first.retry(OptionChanges(max_duration=60, priority=99, options={"colour": "blue"}))
    gate.open()
    assert await asyncio.wait_for(first.result(), 60) == b"done"
    await asyncio.wait_for(second.result(), 60)
    with pytest.raises(ConflictError, match="it is COMPLETED"):
        await first.retry()


async def test_what_is_not_retried_is_told(one_stage: Stage) -> None:
    session, other = await one_stage.session(), await one_stage.session()
    [mine] = await session.submit_many([task(unique("mine"), ["error", "boom"])])
    [foreign] = await other.submit_many([task(unique("foreign"), ["error", "boom"])])
    await session.wait(timeout=60)
    await other.wait(timeout=60)
    retried = await session.retry([mine, foreign, "nobody"])
    assert (retried.retried, retried.not_retried) == (1, 2)
    assert retried.reasons["nobody"] == "there is no such task"
    assert "is not a task of session" in retried.reasons[foreign.id]
    with pytest.raises(InvalidRequestError, match="priority"):
        await session.retry_failed(OptionChanges(priority=100))
    await session.wait(timeout=60)
    assert await session.retry_failed(filter="error*='another reason'") == Retried(0, 0, 0, {})
    assert (await session.retry_failed(filter="error=boom and attempt=1")).retried == 1
    with pytest.raises(InvalidRequestError, match="colour"):
        await session.retry_failed(filter="colour=red")
    await session.wait(timeout=60)
    await session.cancel()
    with pytest.raises(SessionCancelledError):
        await session.retry_failed()


async def test_the_blocking_client_retries_too(one_stage: Stage) -> None:
    file, stem = one_stage.folder / unique("needed"), unique("blocking")

    def program() -> bytes:
        with Client(one_stage.client.address) as client:
            session = client.session(max_retries=0)
            first = session.submit(task(stem, ["require", str(file)], ["give", "at last"]))
            last = session.submit(task(f"{stem} after", ["tell"], needs=[stem]))
            assert session.wait(timeout=60) == {ERROR: 2}
            file.touch()
            first.retry()
            assert b"at last" in last.result(timeout=60)
            assert session.retry_failed() == Retried(0, 0, 0, {})
            assert session.retry(first).reasons == {stem: "it is COMPLETED; only tasks in ERROR or TIMEOUT are retried"}
            return first.result(timeout=60)

    assert await asyncio.to_thread(program) == b"at last"
