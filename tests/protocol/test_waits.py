"""Part 2: waits are pushed, cost nothing while nothing happens, and always end."""

import asyncio
import time
from collections.abc import Awaitable

import grpc
import pytest

from protocol.bare_client import Client, reasons
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import Conversation, erring, held
from protocol.footprint import MIB, memory_of, processor_share
from protocol.messages import (
    CANCELED,
    CANCELING,
    COMPLETED,
    ERROR,
    PROCESSING,
    SUBMITTED,
    TIMEOUT,
    UNFINISHED,
    by_sessions,
    by_tasks,
    options,
    out,
    task,
    unique,
)

WAITERS = 1_000
#: Part 7 of the aim of this suite: the control plane's share of one core while a thousand wait.
_IDLE_SHARE = 0.02
_SETTLED_S = 2.0
_MEASURED_S = 4.0


async def _registered(client: Client, *waits: Awaitable[object]) -> list[asyncio.Future[object]]:
    """Begin these waits, and return once the server has seen them."""
    begun: list[asyncio.Future[object]] = [asyncio.ensure_future(wait) for wait in waits]
    # Two round trips on the same connection: calls that were sent before are under way by then.
    for _ in range(2):
        await client.statuses("nobody")
    return begun


async def test_a_thousand_waiters_cost_nothing(stage: Stage) -> None:
    client, workers = stage.client, stage.workers
    session, name, gate = await client.session(), unique("idle"), asyncio.Event()
    workers.behave(held(gate), name)
    await client.submit(session, task(name), task(f"{name} waits", needs=["never"]))
    await workers.begun(name)
    completions = [client.wait(by_sessions(session)) for _ in range(WAITERS // 2)]
    results = [client.available(session, out(name), timeout_s=60) for _ in range(WAITERS // 2)]
    waits = await _registered(client, *completions, *results)

    await processor_share(stage.process, _SETTLED_S)  # A thousand calls take their time to be taken in.
    shares = await processor_share(stage.process, _MEASURED_S)

    control = {process: share for process, share in shares.items() if " control " in f"{process} "}
    assert control, shares
    assert max(control.values()) < _IDLE_SHARE, control
    database = {process: share for process, share in shares.items() if "postgres" in process}
    assert sum(database.values()) < _IDLE_SHARE, database
    assert not any(wait.done() for wait in waits)
    gate.set()
    await client.cancel_tasks(by_tasks(f"{name} waits"))
    began = time.monotonic()
    ends = await asyncio.gather(*waits)
    assert time.monotonic() - began < 5
    assert ends == [{COMPLETED: 1, CANCELED: 1}] * (WAITERS // 2) + [None] * (WAITERS // 2)


async def test_clients_that_go_away_are_forgotten(stage: Stage) -> None:
    client = stage.client
    session, name = await client.session(), unique("away")
    await client.submit(session, task(name, needs=["never"]))

    async def come_and_go() -> None:
        async with Client(stage.process.address) as visitor:
            completions = [visitor.wait(by_sessions(session)) for _ in range(300)]
            results = [visitor.available(session, out(name)) for _ in range(300)]
            waits = await _registered(visitor, *completions, *results)
            for number, wait in enumerate(waits):
                if number % 2:  # The others go away with their connection.
                    wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    await come_and_go()
    async with memory_of(stage.process) as growth:
        for _ in range(4):
            await come_and_go()

    assert {process: grown for process, grown in growth.worst.items() if grown > 32 * MIB} == {}
    await client.cancel_session(session)
    assert await client.finish(session) == {CANCELED: 1}


@pytest.mark.parametrize("by", ["ids", "session"])
async def test_a_wait_begun_before_during_and_after(client: Client, workers: Workers, by: str) -> None:
    session, names, gate = await client.session(), [unique("when") for _ in range(3)], asyncio.Event()
    workers.behave(held(gate), names[1])
    tasks = by_tasks(*names) if by == "ids" else by_sessions(session)
    await client.submit(session, task(names[0]), task(names[1]), task(names[2], needs=[out(names[1])]))
    before = await _registered(client, client.wait(tasks), client.available(session, out(names[2])))
    await client.until(names[0], COMPLETED)
    await workers.begun(names[1])
    during = await _registered(client, client.wait(tasks), client.available(session, out(names[2])))
    assert not any(wait.done() for wait in [*before, *during])

    gate.set()

    assert await asyncio.gather(*before, *during) == [{COMPLETED: 3}, None] * 2
    assert await client.wait(tasks) == {COMPLETED: 3}
    assert await client.available(session, out(names[2])) is None


async def test_a_wait_ends_soon_after_the_commit(client: Client, workers: Workers) -> None:
    session, delays = await client.session(), list[float]()
    for _ in range(20):
        name, sent_at = unique("soon"), list[float]()

        async def note(call: Conversation, name: str = name, sent_at: list[float] = sent_at) -> None:
            await call.task()
            await call.send_result(out(name), b"")
            sent_at.append(time.monotonic())
            await call.ok()

        workers.behave(note, name)
        wait = asyncio.ensure_future(client.wait(by_tasks(name)))
        await client.submit(session, task(name))
        await wait
        assert await client.available(session, out(name)) is None
        delays.append(time.monotonic() - sent_at[0])
    assert sorted(delays)[len(delays) // 2] < 0.1, delays


async def test_tasks_added_while_a_session_is_waited_for(client: Client, workers: Workers) -> None:
    session, first, second = await client.session(), unique("first"), unique("second")
    gates = {name: asyncio.Event() for name in (first, second)}
    for name, gate in gates.items():
        workers.behave(held(gate), name)
    await client.submit(session, task(first))
    [wait, of_first] = await _registered(client, client.wait(by_sessions(session)), client.wait(by_tasks(first)))
    await client.submit(session, task(second))
    gates[first].set()

    assert await of_first == {COMPLETED: 1}
    await workers.begun(second)
    assert not wait.done()
    gates[second].set()
    assert await wait == {COMPLETED: 2}


async def test_sub_tasks_added_while_a_session_is_waited_for(client: Client, workers: Workers) -> None:
    session, parent, child, gate = await client.session(), unique("parent"), unique("child"), asyncio.Event()

    async def create(call: Conversation) -> None:
        await call.task()
        await call.sub_tasks([task(child, [out(parent)])])
        await call.ok()

    workers.behave(create, parent)
    workers.behave(held(gate), child)
    await client.submit(session, task(parent))
    [wait] = await _registered(client, client.wait(by_sessions(session)))
    await workers.begun(child)
    assert not wait.done()

    gate.set()

    assert await wait == {COMPLETED: 2}


async def test_waits_with_statuses(client: Client, workers: Workers) -> None:
    session, done, bad, runs, gate = await client.session(), unique("a"), unique("b"), unique("c"), asyncio.Event()
    workers.behave(erring(), bad)
    workers.behave(held(gate), runs)
    await client.submit(session, task(done), task(bad), task(runs))
    await client.wait(by_tasks(done, bad))
    await client.until(runs, PROCESSING)

    assert await client.wait(by_sessions(session, included=[COMPLETED]), timeout_s=5) == {COMPLETED: 1}
    assert await client.wait(by_sessions(session, included=[COMPLETED, ERROR]), timeout_s=5) == {COMPLETED: 1, ERROR: 1}
    assert await client.wait(by_sessions(session, excluded=list(UNFINISHED)), timeout_s=5) == {COMPLETED: 1, ERROR: 1}
    assert await client.wait(by_sessions(session, included=[SUBMITTED]), timeout_s=5) == {}
    waits = await _registered(
        client,
        client.wait(by_sessions(session, excluded=[COMPLETED])),
        client.wait(by_sessions(session, included=[PROCESSING])),
        client.wait(by_tasks(runs, bad, excluded=[TIMEOUT])),
    )
    assert not any(wait.done() for wait in waits)

    gate.set()

    assert await asyncio.gather(*waits) == [{ERROR: 1}, {}, {COMPLETED: 1, ERROR: 1}]


@pytest.mark.parametrize("flag", ["error", "cancellation"])
async def test_flags_stop_only_for_what_they_name(client: Client, workers: Workers, flag: str) -> None:
    session, gate = await client.session(), asyncio.Event()
    runs, bad, slow, cancelled = (unique(stem) for stem in ("runs", "bad", "slow", "cancelled"))
    workers.behave(held(gate), runs)
    workers.behave(erring(), bad)
    workers.behave(held(asyncio.Event()), slow)
    await client.submit(session, task(runs), task(cancelled, needs=["never"]))
    await workers.begun(runs)
    [wait] = await _registered(
        client, client.wait(by_sessions(session), or_error=flag == "error", or_cancellation=flag == "cancellation")
    )

    if flag == "error":
        await client.cancel_tasks(by_tasks(cancelled))
        await client.submit(session, task(slow), task_options=options(max_duration_s=0.2))
    else:
        await client.submit(session, task(bad))
        await client.until(bad, ERROR)
        await _registered(client)
        assert not wait.done()
        await client.cancel_tasks(by_tasks(cancelled))

    counts = await wait
    assert isinstance(counts, dict)
    if flag == "error":
        assert counts.get(TIMEOUT) == 1 and counts.get(CANCELED) == 1
    else:
        assert counts.get(ERROR) == 1 and counts.get(CANCELED) == 1
    assert sum(count for status, count in counts.items() if status in UNFINISHED) == 1
    gate.set()
    await client.finish(session)


async def test_a_flag_stops_at_canceling(client: Client, workers: Workers) -> None:
    session, runs, other, gate = await client.session(), unique("runs"), unique("other"), asyncio.Event()
    workers.behave(held(gate), runs, other)
    await client.submit(session, task(runs), task(other))
    await workers.begun(runs)
    await workers.begun(other)
    [wait] = await _registered(client, client.wait(by_sessions(session), or_cancellation=True))

    await client.cancel_tasks(by_tasks(runs))

    counts = await wait
    assert isinstance(counts, dict)
    assert counts.get(CANCELED, 0) + counts.get(CANCELING, 0) == 1
    gate.set()
    assert await client.finish(session) == {COMPLETED: 1, CANCELED: 1}


async def test_waits_end_with_every_kind_of_end(client: Client, workers: Workers) -> None:
    session = await client.session()
    ends = {name: unique(name) for name in ("error", "timeout", "cancelled", "dependent", "aborted")}
    workers.behave(erring("no"), ends["error"])
    workers.behave(held(asyncio.Event()), ends["timeout"])

    async def nothing(call: Conversation) -> None:
        await call.task()
        await call.ok()

    workers.behave(nothing, ends["aborted"])
    await client.submit(session, task(ends["cancelled"], needs=["never"]))
    await client.submit(session, task(ends["dependent"], needs=[out(ends["cancelled"])]))
    waits = await _registered(
        client, *(client.available(session, out(ends[name])) for name in ("cancelled", "dependent"))
    )
    await client.submit(session, task(ends["timeout"]), task_options=options(max_duration_s=0.2))
    await client.submit(session, task(ends["error"]), task(ends["aborted"]))
    waits += await _registered(
        client, *(client.available(session, out(ends[name])) for name in ("timeout", "error", "aborted"))
    )
    await client.cancel_tasks(by_tasks(ends["cancelled"]))

    errors = await asyncio.gather(*waits)

    assert all(error is not None for error in errors)
    assert await client.finish(session) == {ERROR: 2, TIMEOUT: 1, CANCELED: 1, COMPLETED: 1}
    assert "no" in reasons(await client.available(session, out(ends["error"])))[0]


async def test_a_deadline_ends_a_wait(client: Client) -> None:
    session, name = await client.session(), unique("deadline")
    await client.submit(session, task(name, needs=["never"]))
    for wait in (
        client.wait(by_sessions(session), timeout_s=0.2),
        client.available(session, out(name), timeout_s=0.2),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await wait
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await client.cancel_session(session)


async def test_many_sessions_are_waited_for_at_once(client: Client, workers: Workers) -> None:
    sessions = [await client.session() for _ in range(50)]
    waits = []
    for session in sessions:
        await client.submit(session, *(task(unique("each")) for _ in range(3)))
        waits.append(asyncio.ensure_future(client.finish(session)))
    assert await asyncio.gather(*waits) == [{COMPLETED: 3}] * 50
    assert await client.wait(by_sessions(*sessions)) == {COMPLETED: 150}
