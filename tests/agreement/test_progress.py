"""How far tasks have come, from their handlers to whoever follows them."""

import asyncio

from agreement.scripts import task
from agreement.stage import Stage, unique
from ripieno.client import Client, TaskProgress


async def test_how_far_tasks_have_come_is_followed_in_one_stream(stage: Stage) -> None:
    """The original protocol has no place for it: a worker that serves that alone is not heard."""
    session, gate = await stage.session(), stage.gate()
    handles = [
        await session.submit(task(unique("far"), ["progress", 0.25, "a quarter"], ["hold", str(gate.path)]))
        for _ in range(2)
    ]
    await gate.begun()
    if stage.lane.single:
        assert await handles[0].progress() is None
        gate.open()
        return
    told = dict[str, TaskProgress]()
    async with asyncio.timeout(60):
        async for each in session.follow_progress():
            told[each.task_id] = each
            if len(told) == len(handles):
                break
    assert list(map(told.get, (each.id for each in handles))) == [
        TaskProgress(each.id, 0, 0.25, "a quarter") for each in handles
    ]
    assert await handles[0].progress() == told[handles[0].id]
    gate.open()
    await session.wait(timeout=60)
    assert await handles[0].progress() is None


async def test_a_program_without_an_event_loop_follows_it_too(one_stage: Stage) -> None:
    session, gate = await one_stage.session(), one_stage.gate()
    handle = await session.submit(task(unique("far"), ["progress", 0.5, ""], ["hold", str(gate.path)]))

    def ask() -> tuple[TaskProgress, TaskProgress | None]:
        with Client(one_stage.process.address) as client:
            blocking = client.open_session(session.id)
            return next(blocking.follow_progress()), blocking.progress(handle.id)

    expected = TaskProgress(handle.id, 0, 0.5, "")
    assert await asyncio.wait_for(asyncio.to_thread(ask), 60) == (expected, expected)
    gate.open()
