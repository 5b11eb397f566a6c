"""Golden scenarios G9 to G11 and G28: what runs when (part 5)."""

import asyncio

import pytest

from protocol.bare_client import ABORTED, Client, reasons
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import Conversation, erring, held
from protocol.messages import COMPLETED, ERROR, SUBMITTED, options, out, task, unique


async def test_g9_dependency_announced_later(client: Client, workers: Workers) -> None:
    session, first, second = await client.session(), unique("g9-a"), unique("g9-b")
    received: dict[str, bytes] = {}

    async def keep(call: Conversation) -> None:
        given = await call.task()
        received.update(given.data)
        await call.send_result(out(first), b"done")
        await call.ok()

    workers.behave(keep, first)
    await client.submit(session, task(first, needs=[out(second)]))
    assert await client.status(first) == SUBMITTED
    assert await client.result_statuses(session, out(second)) == {}, "a key that no task has announced is unknown"

    await client.submit(session, task(second, payload=b"bytes of b"))

    assert await client.available(session, out(first)) is None
    assert received == {out(second): b"bytes of b"}
    [attempt_of_second], [attempt_of_first] = workers.attempts_of(second), workers.attempts_of(first)
    assert attempt_of_second.began_at < attempt_of_first.began_at


async def test_g10_error_goes_down_the_chain(client: Client, workers: Workers) -> None:
    session, a, b, c = await client.session(), unique("g10-a"), unique("g10-b"), unique("g10-c")
    workers.behave(erring("the root cause"), b)
    await client.submit(session, task(c, needs=[out(a)]))
    await client.submit(session, task(a, needs=[out(b)]))
    await client.submit(session, task(b))

    error = await client.available(session, out(c))

    assert error is not None and error.task_id == c
    story = " ".join(reasons(error))
    for name in (out(a), a, b, "the root cause"):
        assert name in story, f"{name!r} is not in {story!r}"
    assert out(b) in " ".join(reasons(await client.available(session, out(a))))
    assert await client.statuses(a, b, c) == {a: ERROR, b: ERROR, c: ERROR}
    assert await client.result_statuses(session, out(a), out(b), out(c)) == {
        out(a): ABORTED,
        out(b): ABORTED,
        out(c): ABORTED,
    }
    assert "the root cause" in (await client.output(c)).error.details
    assert workers.attempts_of(a) == [] == workers.attempts_of(c)


async def test_g10_dependency_that_was_aborted_before(client: Client, workers: Workers) -> None:
    session, cause, late = await client.session(), unique("g10-cause"), unique("g10-late")
    workers.behave(erring("long ago"), cause)
    await client.submit(session, task(cause))
    assert await client.available(session, out(cause)) is not None

    await client.submit(session, task(late, needs=[out(cause)]))

    story = " ".join(reasons(await client.available(session, out(late))))
    assert cause in story and out(cause) in story and "long ago" in story
    assert await client.status(late) == ERROR
    assert workers.attempts_of(late) == []


async def test_g11_dependency_twice(client: Client, workers: Workers) -> None:
    session, first, second = await client.session(), unique("g11-a"), unique("g11-b")
    gate, received = asyncio.Event(), dict[str, bytes]()

    async def keep(call: Conversation) -> None:
        received.update((await call.task()).data)
        await call.send_result(out(first), b"")
        await call.ok()

    workers.behave(keep, first)
    workers.behave(held(gate), second)
    await client.submit(session, task(second, payload=b"once"), task(first, needs=[out(second), out(second)]))
    await workers.begun(second)
    assert await client.status(first) == SUBMITTED

    gate.set()

    assert await client.available(session, out(first)) is None
    assert received == {out(second): b"once"}
    assert await client.statuses(first, second) == {first: COMPLETED, second: COMPLETED}


@pytest.mark.parametrize("short_tasks_before", [0, 300])
async def test_g28_priorities(solo: Stage, short_tasks_before: int) -> None:
    """Also when short tasks have just taught the agent to ask for work well ahead."""
    client, workers = solo.client, solo.workers
    session, busy, gate = await client.session(), unique("g28-busy"), asyncio.Event()
    before = await client.session()
    await client.submit(before, *(task(unique("g28-short"), []) for _ in range(short_tasks_before + 1)))
    await client.finish(before)
    workers.behave(held(gate), busy)
    await client.submit(session, task(busy))
    await workers.begun(busy)
    names = {priority: unique(f"g28-{priority}") for priority in (1, 50, 99)}
    for priority, name in names.items():
        await client.submit(session, task(name), task_options=options(priority=priority))

    gate.set()
    await client.finish(session)

    order = [attempt.task_id for attempt in workers.attempts_in(session)]
    assert order == [busy, names[99], names[50], names[1]]


async def test_equal_priorities_run_in_the_order_of_submission(solo: Stage) -> None:
    client, workers = solo.client, solo.workers
    session, busy, gate = await client.session(), unique("order-busy"), asyncio.Event()
    workers.behave(held(gate), busy)
    await client.submit(session, task(busy))
    await workers.begun(busy)
    names = [unique("order") for _ in range(12)]
    await client.submit(session, *map(task, names[:6]))
    await client.submit_large(session, *map(task, names[6:9]))
    await client.submit(session, *map(task, names[9:]))

    gate.set()
    await client.finish(session)

    assert [attempt.task_id for attempt in workers.attempts_in(session)] == [busy, *names]


async def test_every_priority_counts(solo: Stage) -> None:
    client, workers = solo.client, solo.workers
    session, busy, gate = await client.session(), unique("every-busy"), asyncio.Event()
    workers.behave(held(gate), busy)
    await client.submit(session, task(busy), task_options=options(priority=99))
    await workers.begun(busy)
    names = {priority: unique(f"every-{priority}") for priority in range(1, 100)}
    for priority, name in sorted(names.items(), key=lambda item: item[1][::-1]):  # an order of no meaning
        await client.submit(session, task(name), task_options=options(priority=priority))

    gate.set()
    await client.finish(session)

    order = [attempt.task_id for attempt in workers.attempts_in(session)]
    assert order == [busy, *(names[priority] for priority in range(99, 0, -1))]
