"""Golden scenarios G15, G17, G21 and G28: cancelling, waiting, and who comes first."""

import asyncio

import pytest

from agreement.scripts import task
from agreement.stage import Seen, Stage, unique
from protocol.deadlines import eventually
from ripieno.client import (
    NotFoundError,
    SessionCancelledError,
    SessionStatus,
    SessionStepError,
    TaskCancelledError,
    TaskOptions,
    TaskStatus,
)

COMPLETED, CANCELLED = TaskStatus.COMPLETED, TaskStatus.CANCELLED


async def test_g15_a_session_is_cancelled(stage: Stage) -> None:
    session, gate = await stage.session(), stage.gate()
    done, runs, waits, after = (unique(f"g15-{what}") for what in ("done", "runs", "waits", "after"))
    assert await stage.seen(await session.submit(task(done, ["give", "kept"]))) == Seen(COMPLETED, b"kept")
    handles = await session.submit_many(
        [
            task(runs, ["hold", str(gate.path)], ["give", "too late"]),
            task(waits, ["give", "never"], needs=["never announced"]),
            task(after, ["total", 1], needs=[runs]),
        ]
    )
    await gate.begun()

    await session.cancel()

    gate.open()
    statuses = await session.status()
    assert [statuses[name] for name in (done, waits)] == [COMPLETED, CANCELLED]
    assert statuses[runs] in {TaskStatus.CANCELLING, CANCELLED}
    for name, seen in zip((runs, waits), await stage.all_seen(handles[:2]), strict=True):
        assert seen == Seen(CANCELLED, None, name, ((CANCELLED, "cancelled"),))
    # It would run no more either way; that its session is cancelled is the nearer reason.
    assert await session.status(after) == {after: CANCELLED}
    await session.cancel()
    with pytest.raises(SessionCancelledError, match=session.id):
        await session.submit(task(unique("g15-late"), ["give", "x"]))
    assert await session.result(done) == b"kept"


async def test_g17_tasks_are_cancelled(stage: Stage) -> None:
    session, gate = await stage.session(), stage.gate()
    done, failed, runs, hangs = (unique(f"g17-{what}") for what in ("done", "failed", "runs", "hangs"))
    handles = await session.submit_many([task(done, ["give", "x"]), task(failed, ["error", "before"])])
    await stage.all_seen(handles)
    handles += await session.submit_many(
        [task(runs, ["hold", str(gate.path)]), task(hangs, ["total", 1], needs=[runs])]
    )
    await gate.begun()

    await session.cancel_tasks([done, failed, runs])
    await session.cancel_tasks([done, failed, runs])

    seen = await stage.all_seen(handles)
    assert [each.status for each in seen] == [COMPLETED, TaskStatus.ERROR, CANCELLED, TaskStatus.ERROR]
    assert seen[2].reasons == ["cancelled"]
    assert seen[3].reasons == [f"input {runs!r} was aborted: task {runs!r} ended in CANCELLED: cancelled"]
    with pytest.raises(TaskCancelledError, match="was cancelled: cancelled"):
        await handles[2].result(timeout=30)
    late = await stage.seen(await session.submit(task(unique("g17-late"), ["total", 1], needs=[runs])))
    assert late.reasons == seen[3].reasons
    next_one = await session.submit(task(unique("g17-after"), ["give", "next"]))
    assert await stage.seen(next_one) == Seen(COMPLETED, b"next")


async def test_a_cancelled_attempt_gives_its_slot_back(stage: Stage) -> None:
    session, gates = await stage.session(), [stage.gate() for _ in range(4)]
    held = [await session.submit(task(unique("slot"), ["hold", str(gate.path)])) for gate in gates[:2]]
    await asyncio.gather(*(gate.begun() for gate in gates[:2]))
    # All slots are taken. What waits behind them begins as soon as they are free.
    held += [await session.submit(task(unique("slot"), ["hold", str(gate.path)])) for gate in gates[2:]]

    await session.cancel_tasks(held[:2])

    await asyncio.gather(*(gate.begun() for gate in gates[2:]))
    for gate in gates:
        gate.open()
    assert await session.wait(timeout=30) == {COMPLETED: 2, CANCELLED: 2}


async def test_a_task_that_is_being_cancelled(stage: Stage) -> None:
    session, gate, name = await stage.session(), stage.gate(), unique("being")
    handle = await session.submit(task(name, ["hold_on", str(gate.path)], ["give", "too late"]))
    await gate.begun()

    await session.cancel_tasks(handle)

    # Its worker has yet to let go; its result is aborted all the same, and it is told why.
    with pytest.raises(TaskCancelledError) as failure:
        await handle.result(timeout=30)
    gate.open()
    assert [(each.status, each.detail) for each in failure.value.attempts] == [(CANCELLED, "cancelled")]
    assert await stage.seen(handle) == Seen(CANCELLED, None, name, ((CANCELLED, "cancelled"),))


async def test_handlers_that_do_not_yield_are_replaced(stage: Stage) -> None:
    session, gates = await stage.session(), [stage.gate(), stage.gate()]
    limits = [TaskOptions(max_duration=limit, max_retries=0, partition=stage.lane.partition) for limit in (30, 0.5)]
    cancelled, slow = [
        await session.submit(task(unique("deaf"), ["hold_on", str(gate.path)]), task_options=limit)
        for gate, limit in zip(gates, limits, strict=True)
    ]
    await asyncio.gather(*(gate.begun() for gate in gates))
    try:
        await session.cancel_tasks(cancelled)
        heard = await session.submit_many([task(unique("heard"), ["give", "next"]) for _ in range(4)])
        # 2 s of grace and the time to start a process; the deaf ones would hold on for a minute.
        async with asyncio.timeout(15):
            assert await stage.all_seen(heard) == [Seen(COMPLETED, b"next")] * 4
            assert [seen.status for seen in await stage.all_seen([cancelled, slow])] == [CANCELLED, TaskStatus.TIMEOUT]
    finally:
        for gate in gates:
            gate.open()


async def test_g28_the_most_urgent_goes_first(stage: Stage) -> None:
    session, gates, book = await stage.session(), [stage.gate(), stage.gate()], stage.folder / unique("book")
    # One slot is held throughout, so that the other one runs all the rest, one after the other.
    held = [await session.submit(task(unique("g28-held"), ["hold", str(gate.path)])) for gate in gates]
    await asyncio.gather(*(gate.begun() for gate in gates))
    names = {priority: unique(f"g28-{priority}") for priority in (1, 50, 99, 2)}
    for priority, name in names.items():
        options = TaskOptions(priority=priority, partition=stage.lane.partition)
        held.append(await session.submit(task(name, ["note", str(book)]), task_options=options))

    async def queued() -> bool:
        # An agent may have taken one ahead; behind attempts that run for long it gives it back.
        return set((await session.status(list(names.values()))).values()) == {TaskStatus.SUBMITTED}

    await eventually(queued, "all of them queue")
    gates[0].open()
    await session.wait(list(names.values()), timeout=30)

    assert book.read_text().splitlines() == [names[99], names[50], names[2], names[1]]
    gates[1].open()
    assert await session.wait(timeout=30) == {COMPLETED: len(held)}


async def test_g20_a_wait_lasts_until_the_last_one(stage: Stage) -> None:
    session, gate = await stage.session(), stage.gate()
    bad, runs = unique("g20-bad"), unique("g20-runs")
    await session.submit_many([task(bad, ["error", "boom"]), task(runs, ["hold", str(gate.path)])])
    waiter = asyncio.ensure_future(session.wait(timeout=30))
    await gate.begun()

    async def failed() -> bool:
        return (await session.status(bad))[bad] is TaskStatus.ERROR

    await eventually(failed, "the other task fails")
    assert not waiter.done()
    gate.open()

    assert await waiter == {COMPLETED: 1, TaskStatus.ERROR: 1}


async def test_a_session_is_paused_closed_purged_and_deleted(stage: Stage) -> None:
    session = await stage.session()
    assert await session.pause() is SessionStatus.PAUSED
    held = await session.submit(task(unique("held"), ["give", "x"]))
    assert await session.status(held) == {held.id: TaskStatus.SUBMITTED}
    assert await session.resume() is SessionStatus.RUNNING
    assert await stage.seen(held) == Seen(COMPLETED, b"x")
    with pytest.raises(SessionStepError, match="cannot be purged: it is RUNNING"):
        await session.purge()
    await session.stop_submission(clients=True)
    with pytest.raises(SessionCancelledError, match="takes no more tasks of clients"):
        await session.submit(task(unique("late"), ["give", "x"]))
    assert await session.close_session() is SessionStatus.CLOSED
    assert await session.purge() is SessionStatus.PURGED
    assert await session.counts() == {COMPLETED: 1}
    await session.delete()
    await session.delete()
    stage.sessions.clear()
    with pytest.raises(NotFoundError):
        await session.pause()
