"""Golden scenarios G12 to G22: sessions, cancelling, look-ups and waits (part 5)."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from protocol.bare_client import ABORTED, RESULT_COMPLETED, Client, refused
from protocol.bare_worker import Workers
from protocol.conversation import erring, held
from protocol.messages import (
    CANCELED,
    CANCELING,
    COMPLETED,
    ERROR,
    UNFINISHED,
    by_sessions,
    by_tasks,
    options,
    out,
    small,
    task,
    unique,
)
from protocol.stubs.objects_pb2 import ResultRequest
from protocol.stubs.submitter_service_pb2 import CreateSessionRequest

ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("cancelled", [False, True])
async def test_g12_duplicate_session(client: Client, cancelled: bool) -> None:
    session = await client.session("g12", options(priority=7))
    if cancelled:
        await client.cancel_session(session)

    reply = await client.stub.CreateSession(CreateSessionRequest(id=session, default_task_option=options()))

    assert reply.WhichOneof("result") == "error"
    assert session in reply.error and "\n" not in reply.error


async def test_g13_duplicate_task(client: Client, workers: Workers) -> None:
    session, name, other = await client.session(), unique("g13"), unique("g13-other")
    gate = asyncio.Event()
    workers.behave(held(gate), name)
    await client.submit(session, task(name, payload=b"original"))

    with refused(ALREADY_EXISTS, naming=[name]):
        await client.submit(session, task(other), task(name, payload=b"another"))
    await client.submit(session, task(name, payload=b"original"))
    gate.set()

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == b"original"
    await client.submit(session, task(name, payload=b"original"))
    assert await client.listed(by_sessions(session)) == [name]
    assert await client.statuses(name, other) == {name: COMPLETED}
    assert len(workers.attempts_of(name)) == 1


async def test_g14_key_of_another_task(client: Client) -> None:
    session, owner, thief, friend = await client.session(), unique("g14"), unique("g14-thief"), unique("g14-friend")
    await client.submit(session, task(owner, payload=b"mine"))

    with refused(ALREADY_EXISTS, naming=[out(owner)]):
        await client.submit(session, task(friend), task(thief, [f"{thief} own", out(owner)]))

    assert await client.statuses(thief, friend) == {}
    assert await client.result_statuses(session, f"{thief} own", out(friend)) == {}
    assert await client.available(session, out(owner)) is None
    assert await client.result(session, out(owner)) == b"mine"
    other_session = await client.session()
    await client.submit(other_session, task(friend, [out(owner)], payload=b"keys are per session"))
    assert await client.available(other_session, out(owner)) is None
    assert await client.result(other_session, out(owner)) == b"keys are per session"


async def test_g15_cancel_session_in_every_state(client: Client, workers: Workers) -> None:
    session = await client.session()
    done, runs, waits = unique("g15-done"), unique("g15-runs"), unique("g15-waits")
    workers.behave(held(asyncio.Event()), runs)
    await client.submit(session, task(done, payload=b"kept"))
    assert await client.available(session, out(done)) is None
    await client.submit(session, task(runs), task(waits, needs=["never announced"]))
    attempt = await workers.begun(runs)

    await client.cancel_session(session)

    statuses = await client.statuses(done, runs, waits)
    assert statuses[done] == COMPLETED and statuses[waits] == CANCELED
    assert statuses[runs] in {CANCELING, CANCELED}
    await client.until(runs, CANCELED)
    await workers.ended(attempt)
    assert attempt.cancelled
    keys = [out(done), out(runs), out(waits)]
    expected = dict(zip(keys, [RESULT_COMPLETED, ABORTED, ABORTED], strict=True))
    assert await client.result_statuses(session, *keys) == expected
    assert await client.result(session, out(done)) == b"kept"
    assert (await client.output(runs)).error.details and (await client.output(waits)).error.details
    error = await client.available(session, out(waits))
    assert error is not None and error.task_id == waits
    assert len(workers.attempts_of(runs)) == 1 and workers.attempts_of(waits) == []


async def test_g16_cancel_session_unknown_twice_empty(client: Client) -> None:
    unknown = unique("g16-unknown")
    with refused(NOT_FOUND, naming=[unknown]):
        await client.cancel_session(unknown)
    empty = await client.session()
    await client.cancel_session(empty)
    await client.cancel_session(empty)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, naming=[empty]):
        await client.submit(empty, task(unique("g16-late")))


async def test_g17_cancel_tasks_of_a_session(client: Client, workers: Workers) -> None:
    session = await client.session()
    done, failed, waits = unique("g17-done"), unique("g17-failed"), unique("g17-waits")
    workers.behave(erring("before"), failed)
    await client.submit(session, task(done), task(failed))
    await client.wait(by_tasks(done, failed))
    await client.submit(session, task(waits, needs=["never announced"]))

    await client.cancel_tasks(by_sessions(session))
    await client.cancel_tasks(by_tasks(done, failed, waits))

    assert await client.statuses(done, failed, waits) == {done: COMPLETED, failed: ERROR, waits: CANCELED}
    after = unique("g17-after")
    await client.submit(session, task(after))
    await client.until(after, COMPLETED)


async def test_g18_unknown_ids_are_left_out(client: Client) -> None:
    session, known, unknown = await client.session(), unique("g18"), unique("g18-unknown")
    await client.submit(session, task(known))
    await client.until(known, COMPLETED)

    assert await client.statuses(unknown, known) == {known: COMPLETED}
    assert await client.statuses(unknown) == {}
    assert await client.result_statuses(session, out(unknown), out(known)) == {out(known): RESULT_COMPLETED}
    assert await client.listed(by_tasks(unknown, known)) == [known]
    assert await client.counts(by_tasks(unknown, known)) == {COMPLETED: 1}
    assert await client.listed(by_sessions(unknown)) == []
    assert await client.counts(by_sessions(unknown, session)) == {COMPLETED: 1}
    await client.cancel_tasks(by_tasks(unknown))


async def test_g19_wait_on_unknown_ids(client: Client) -> None:
    assert await client.wait(by_tasks(unique("g19")), timeout_s=5) == {}
    assert await client.wait(by_sessions(unique("g19")), timeout_s=5) == {}
    assert await client.wait(by_sessions(await client.session()), timeout_s=5) == {}


async def test_g20_wait_counts_both_ends(client: Client, workers: Workers) -> None:
    session, good, bad = await client.session(), unique("g20-good"), unique("g20-bad")
    gate = asyncio.Event()
    workers.behave(held(gate), good)
    workers.behave(erring(), bad)
    await client.submit(session, task(good), task(bad))
    waiter = asyncio.ensure_future(client.wait(by_tasks(good, bad)))
    await client.until(bad, ERROR)
    await workers.begun(good)
    assert not waiter.done()

    gate.set()

    assert await waiter == {COMPLETED: 1, ERROR: 1}


async def test_g21_wait_stops_on_first_error(client: Client, workers: Workers) -> None:
    session, bad, runs = await client.session(), unique("g21-bad"), unique("g21-runs")
    gates = {bad: asyncio.Event(), runs: asyncio.Event()}
    workers.behave(held(gates[bad], erring()), bad)
    workers.behave(held(gates[runs]), runs)
    await client.submit(session, task(bad), task(runs))
    await workers.begun(runs)
    waiter = asyncio.ensure_future(client.wait(by_sessions(session), or_error=True))

    gates[bad].set()
    counts = await waiter

    assert counts.pop(ERROR) == 1
    assert sum(counts.values()) == 1 and set(counts) <= UNFINISHED
    gates[runs].set()
    assert await client.finish(session) == {COMPLETED: 1, ERROR: 1}
    assert await client.wait(by_sessions(session), or_error=True) == {COMPLETED: 1, ERROR: 1}


@pytest.mark.parametrize("session_known", [False, True])
async def test_g22_unknown_results_and_tasks(client: Client, session_known: bool) -> None:
    session = await client.session() if session_known else unique("g22")
    unknown = unique("g22-key")
    request = ResultRequest(session=session, key=unknown)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.stub.TryGetTaskOutput(request, timeout=5),
        lambda: client.stub.WaitForAvailability(request, timeout=5),
        lambda: client.result_replies(session, unknown),
    ]
    for call in calls:
        with refused(NOT_FOUND) as refusal:
            await call()
        assert unknown in refusal.detail or session in refusal.detail


async def test_unknown_session_is_not_found(client: Client) -> None:
    unknown, name = unique("unknown"), unique("task")
    with refused(NOT_FOUND, naming=[unknown]):
        await client.stub.CreateSmallTasks(small(unknown, task(name)), timeout=5)
    with refused(NOT_FOUND, naming=[unknown]):
        await client.submit_large(unknown, task(name))
    assert await client.statuses(name) == {}
