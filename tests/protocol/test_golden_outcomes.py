"""Golden scenarios G1 to G8: what a task's end means for its results (part 5)."""

import asyncio

from protocol.bare_client import ABORTED, CREATED, RESULT_COMPLETED, Client, reasons
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import Conversation, by_attempt, echo, erring, failing, held, making, saying
from protocol.messages import (
    COMPLETED,
    DISPATCHED,
    ERROR,
    PROCESSING,
    SUBMITTED,
    TIMEOUT,
    TaskStatus,
    by_sessions,
    by_tasks,
    options,
    out,
    task,
    unique,
)
from protocol.replies import output_error, output_ok, whole_result

#: Part 4: a task that runs is seen as PROCESSING within this time; twice it on a busy machine.
_SEEN_WITHIN_S = 0.2


async def test_g1_result_and_ok(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("g1")
    gate = asyncio.Event()
    workers.behave(held(gate, making(**{out(name): b"forty-two"})), name)
    await client.submit(session, task(name))
    seen: list[TaskStatus] = []

    async def watch() -> None:
        while not seen or seen[-1] != COMPLETED:
            status = await client.status(name)
            if not seen or seen[-1] != status:
                seen.append(status)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        await workers.begun(name)
        assert await client.result_statuses(session, out(name)) == {out(name): CREATED}
        await client.until(name, PROCESSING, within_s=_SEEN_WITHIN_S)
        gate.set()
        assert await client.available(session, out(name)) is None

    # Before it runs, an agent whose workers are still busy with what was before may give it back.
    assert seen[-2:] == [PROCESSING, COMPLETED]
    assert {SUBMITTED, DISPATCHED}.issuperset(seen[:-2])

    assert (await client.output(name)).WhichOneof("type") == "ok"
    assert await client.result(session, out(name)) == b"forty-two"
    assert await client.result_statuses(session, out(name)) == {out(name): RESULT_COMPLETED}
    assert [attempt.task_id for attempt in workers.attempts_of(name)] == [name]


async def test_g2_ok_and_nothing_sent(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("g2")
    workers.behave(saying(output_ok()), name)
    await client.submit(session, task(name))

    error = await client.available(session, out(name))

    assert error is not None and error.task_id == name
    await client.until(name, COMPLETED)
    assert await client.result_statuses(session, out(name)) == {out(name): ABORTED}
    [reply] = await client.result_replies(session, out(name))
    assert reply.error.task_id == name
    assert (await client.output(name)).WhichOneof("type") == "ok"


async def test_g3_result_then_output_error(client: Client, workers: Workers) -> None:
    session, name = await client.session(default=options(max_retries=5)), unique("g3")
    workers.behave(saying(*whole_result("r", out(name), b"never seen"), output_error("boom")), name)
    await client.submit(session, task(name))

    error = await client.available(session, out(name))

    assert error is not None and error.task_id == name
    assert [entry.task_status for entry in error.errors] == [ERROR]
    assert "boom" in error.errors[0].detail
    assert await client.status(name) == ERROR
    output = await client.output(name)
    assert "boom" in output.error.details
    assert await client.result_statuses(session, out(name)) == {out(name): ABORTED}
    assert len(workers.attempts_of(name)) == 1


async def test_g4_call_fails_always(client: Client, workers: Workers) -> None:
    session, name = await client.session(default=options(max_retries=2)), unique("g4")
    workers.behave(by_attempt(failing("first"), failing("second"), failing("third")), name)
    await client.submit(session, task(name))

    error = await client.available(session, out(name))

    assert error is not None and error.task_id == name
    assert [entry.task_status for entry in error.errors] == [ERROR] * 3
    for reason, word in zip(reasons(error), ["first", "second", "third"], strict=True):
        assert word in reason
    assert [attempt.task_id for attempt in workers.attempts_of(name)] == [name, f"{name}###1", f"{name}###2"]
    assert await client.status(name) == ERROR
    assert "third" in (await client.output(name)).error.details
    [reply] = await client.result_replies(session, out(name))
    assert reply.error == error


async def test_g5_call_fails_once(client: Client, workers: Workers) -> None:
    session, name = await client.session(default=options(max_retries=2)), unique("g5")
    workers.behave(by_attempt(failing(), echo), name)
    await client.submit(session, task(name, payload=b"again"))

    assert await client.available(session, out(name)) is None

    assert await client.status(name) == COMPLETED
    assert (await client.output(name)).WhichOneof("type") == "ok"
    assert await client.result(session, out(name)) == b"again"
    assert [attempt.task_id for attempt in workers.attempts_of(name)] == [name, f"{name}###1"]


async def test_g6_slower_than_max_duration(solo: Stage) -> None:
    client, workers = solo.client, solo.workers
    session, name, after = await client.session(), unique("g6"), unique("g6-after")
    workers.behave(held(asyncio.Event()), name)
    await client.submit(session, task(name), task_options=options(max_duration_s=0.4, max_retries=1))

    error = await client.available(session, out(name))

    assert error is not None and [entry.task_status for entry in error.errors] == [TIMEOUT] * 2
    assert await client.status(name) == TIMEOUT
    assert (await client.output(name)).error.details
    attempts = workers.attempts_of(name)
    assert [attempt.task_id for attempt in attempts] == [name, f"{name}###1"]
    for attempt in attempts:
        await workers.ended(attempt)
        assert attempt.cancelled
        assert attempt.ended_at is not None and 0.35 < attempt.ended_at - attempt.began_at < 2
    await client.submit(session, task(after, payload=b"next"))
    assert await client.available(session, out(after)) is None
    assert await client.result(session, out(after)) == b"next"


async def test_g7_delegation_to_a_child(client: Client, workers: Workers) -> None:
    session, parent, child, key = await client.session(), unique("g7"), unique("g7-child"), unique("key")
    gate = asyncio.Event()

    async def delegate(call: Conversation) -> None:
        await call.task()
        reply = await call.sub_tasks([task(child, [key], payload=b"from the child")])
        assert reply.WhichOneof("Data") == "successfull"
        await call.ok()

    workers.behave(delegate, parent)
    workers.behave(held(gate), child)
    await client.submit(session, task(parent, [key]))

    await client.until(parent, COMPLETED)
    assert (await client.output(parent)).WhichOneof("type") == "ok"
    assert await client.status(child) != COMPLETED
    [reply] = await client.result_replies(session, key)
    assert reply.not_completed_task == child
    assert await client.result_statuses(session, key) == {key: CREATED}
    gate.set()
    assert await client.available(session, key) is None
    assert await client.result(session, key) == b"from the child"
    await client.until(child, COMPLETED)
    assert await client.listed(by_sessions(session)) == [parent, child]


async def test_g8_child_then_output_error(client: Client, workers: Workers) -> None:
    session, parent, child, key = await client.session(), unique("g8"), unique("g8-child"), unique("key")

    async def delegate(call: Conversation) -> None:
        await call.task()
        await call.sub_tasks([task(child, [key, f"{key} of the child"])])
        await call.error("changed my mind")

    workers.behave(delegate, parent)
    await client.submit(session, task(parent, [key]))

    error = await client.available(session, key)

    assert error is not None and error.task_id == parent
    assert "changed my mind" in reasons(error)[0]
    assert await client.status(parent) == ERROR
    assert await client.statuses(child) == {}
    assert await client.listed(by_tasks(child)) == []
    assert await client.result_statuses(session, key, f"{key} of the child") == {key: ABORTED}
    assert workers.attempts_of(child) == []


async def test_an_output_error_is_told_to_whoever_waits(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("told")
    gate = asyncio.Event()
    workers.behave(held(gate, erring("not today")), name)
    await client.submit(session, task(name))
    waiter = asyncio.ensure_future(client.available(session, out(name)))
    await workers.begun(name)
    assert not waiter.done()

    gate.set()

    assert "not today" in reasons(await waiter)[0]
