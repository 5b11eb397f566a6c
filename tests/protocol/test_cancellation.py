"""Part 4: after the reply nothing starts and nothing commits, whatever the cancel meets."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from protocol.bare_client import ABORTED, RESULT_COMPLETED, Client, reasons
from protocol.bare_worker import Workers
from protocol.cluster import cluster
from protocol.conversation import Conversation, answering_late, by_attempt, echo, failing, held
from protocol.messages import (
    CANCELED,
    CANCELING,
    COMPLETED,
    ERROR,
    PROCESSING,
    SUBMITTED,
    TaskStatus,
    by_sessions,
    by_tasks,
    options,
    out,
    task,
    unique,
)
from protocol.spawned_worker import STALL
from protocol.test_worker_health import SPAWNED

#: An attempt that begins at a worker this long after the reply breaks the promise; before that the two may
#: have crossed on their ways to this process.
SKEW_S = 0.1
ROUNDS = 15
#: The race of cancel and start has the narrowest window of all.
START_ROUNDS = 40


async def _cancelled(
    client: Client, workers: Workers, session: str, cancel: Callable[[], Awaitable[None]]
) -> dict[str, TaskStatus]:
    """Cancel, hold the server to its promise, and return how the tasks of the session ended."""
    await cancel()
    replied_at = time.monotonic()
    at_reply = await client.statuses(*await client.listed(by_sessions(session)))
    assert set(at_reply.values()) <= {COMPLETED, ERROR, CANCELED, CANCELING}

    await client.finish(session)

    ended = await client.statuses(*await client.listed(by_sessions(session)))
    # Nothing commits: what was not over at the reply is CANCELED, and no task came to exist since.
    assert ended == {name: CANCELED if status == CANCELING else status for name, status in at_reply.items()}
    late = [each for each in workers.attempts_in(session) if each.began_at > replied_at + SKEW_S]
    assert late == [], "an attempt began after the reply"
    for attempt in workers.attempts_in(session):
        await workers.ended(attempt)
    keys = {out(name): RESULT_COMPLETED if status == COMPLETED else ABORTED for name, status in ended.items()}
    assert await client.result_statuses(session, *keys) == keys
    return ended


@pytest.mark.parametrize("size", [1, 5, 40])
async def test_cancel_meets_start(client: Client, workers: Workers, size: int) -> None:
    for round_number in range(START_ROUNDS):
        session = await client.session()
        workers.behave(held(asyncio.Event()), session)
        await client.submit(session, *(task(unique("start")) for _ in range(size)))
        # Some rounds cancel at once, some when the first attempts begin.
        for _ in range(round_number % 12):
            await client.counts(by_sessions(session))

        ended = await _cancelled(client, workers, session, partial(client.cancel_session, session))

        assert set(ended.values()) == {CANCELED}


@pytest.mark.parametrize("by_session", [True, False])
async def test_cancel_meets_commit(client: Client, workers: Workers, by_session: bool) -> None:
    seen = set[TaskStatus]()
    for round_number in range(ROUNDS):
        session, gate = await client.session(), asyncio.Event()
        names = [unique("commit") for _ in range(workers.size)]
        workers.behave(held(gate), *names)
        await client.submit(session, *map(task, names))
        for name in names:
            await workers.begun(name)
        gate.set()
        for _ in range(round_number % 5):
            await client.counts(by_sessions(session))

        async def cancel(session: str = session, names: list[str] = names) -> None:
            await client.cancel_tasks(by_sessions(session) if by_session else by_tasks(*names))

        seen |= set((await _cancelled(client, workers, session, cancel)).values())
    assert seen <= {COMPLETED, CANCELED}


async def test_cancel_meets_a_retry(client: Client, workers: Workers) -> None:
    for round_number in range(ROUNDS):
        session = await client.session(default=options(max_retries=2_000))
        workers.behave(failing("again"), session)
        await client.submit(session, *(task(unique("retry")) for _ in range(8)))
        for _ in range(2 + round_number):
            await client.counts(by_sessions(session))

        ended = await _cancelled(client, workers, session, partial(client.cancel_session, session))

        assert set(ended.values()) == {CANCELED}


async def test_cancel_meets_sub_tasks(client: Client, workers: Workers) -> None:
    async def breed(call: Conversation) -> None:
        """Each makes two more, for ever; both keys of the first are its own."""
        await call.task()
        children = [task(unique("bred")) for _ in range(2)]
        await call.sub_tasks(children)
        await call.send_result(out(call.attempt.task_id), b"")
        await call.ok()

    for round_number in range(ROUNDS):
        session = await client.session()
        workers.behave(breed, session)
        await client.submit(session, *(task(unique("breed")) for _ in range(4)))
        for _ in range(3 + round_number):
            await client.counts(by_sessions(session))

        ended = await _cancelled(client, workers, session, partial(client.cancel_session, session))

        assert set(ended.values()) <= {COMPLETED, CANCELED} and CANCELED in ended.values()


async def test_cancel_meets_promotion(client: Client, workers: Workers) -> None:
    for round_number in range(ROUNDS):
        session, gate = await client.session(), asyncio.Event()
        source, readers = unique("source"), [unique("reader") for _ in range(10)]
        workers.behave(held(gate), source)
        await client.submit(session, task(source), *(task(name, needs=[out(source)]) for name in readers))
        await workers.begun(source)
        gate.set()
        for _ in range(round_number % 4):
            await client.counts(by_sessions(session))

        ended = await _cancelled(client, workers, session, partial(client.cancel_session, session))

        assert set(ended.values()) <= {COMPLETED, CANCELED}


async def test_two_cancels_at_once(client: Client, workers: Workers) -> None:
    for _ in range(ROUNDS):
        session = await client.session()
        names = [unique("twice") for _ in range(6)]
        await client.submit(session, *(task(name) for name in names))

        async def cancel(session: str = session, names: list[str] = names) -> None:
            await asyncio.gather(
                client.cancel_session(session),
                client.cancel_tasks(by_tasks(*reversed(names))),
                client.cancel_tasks(by_sessions(session)),
                client.cancel_session(session),
            )

        await _cancelled(client, workers, session, cancel)


async def test_only_matching_tasks_are_cancelled(client: Client, workers: Workers) -> None:
    session, gate = await client.session(), asyncio.Event()
    runs, waits, stays = unique("runs"), unique("waits"), unique("stays")
    workers.behave(held(gate), runs)
    await client.submit(session, task(runs), task(waits, needs=["never"]), task(stays, needs=[out(runs)]))
    await workers.begun(runs)

    await client.cancel_tasks(by_tasks(waits, runs, included=[SUBMITTED]))

    assert await client.status(waits) == CANCELED
    gate.set()
    assert await client.available(session, out(stays)) is None
    assert await client.statuses(runs, waits, stays) == {runs: COMPLETED, waits: CANCELED, stays: COMPLETED}


async def test_what_depends_on_a_cancelled_task_is_an_error(client: Client, workers: Workers) -> None:
    session, cancelled, reader, last = await client.session(), unique("cancelled"), unique("reader"), unique("last")
    await client.submit(
        session, task(cancelled, needs=["never"]), task(reader, needs=[out(cancelled)]), task(last, needs=[out(reader)])
    )

    await client.cancel_tasks(by_tasks(cancelled))

    assert await client.finish(session) == {CANCELED: 1, ERROR: 2}
    story = " ".join(reasons(await client.available(session, out(last))))
    assert cancelled in story and out(cancelled) in story
    assert workers.attempts_in(session) == []


async def test_a_cancelled_session_has_no_errors_of_its_own(client: Client) -> None:
    session, first, second = await client.session(), unique("first"), unique("second")
    await client.submit(session, task(first, needs=["never"]), task(second, needs=[out(first)]))

    await client.cancel_session(session)

    assert await client.statuses(first, second) == {first: CANCELED, second: CANCELED}


async def test_a_running_task_is_interrupted_at_once(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("interrupted")
    workers.behave(held(asyncio.Event()), name)
    await client.submit(session, task(name))
    attempt = await workers.begun(name)

    await client.cancel_tasks(by_tasks(name))
    replied_at = time.monotonic()
    await workers.ended(attempt)

    assert attempt.cancelled and attempt.ended_at is not None and attempt.ended_at < replied_at + 1
    counts = await client.wait(by_sessions(session), or_cancellation=True)
    assert set(counts) <= {CANCELED, CANCELING}
    await client.until(name, CANCELED)


async def test_an_outcome_after_the_cancel_is_refused(client: Client, workers: Workers) -> None:
    session, name, answered = await client.session(), unique("late"), asyncio.Event()

    workers.behave(answering_late(out(name), b"in spite of all", answered), name)
    await client.submit(session, task(name))
    await workers.begun(name)

    await client.cancel_tasks(by_tasks(name))

    async with asyncio.timeout(10):
        await answered.wait()
    await client.until(name, CANCELED)
    assert await client.result_statuses(session, out(name)) == {out(name): ABORTED}


async def test_a_cancelled_task_that_waits_for_its_retry(client: Client, workers: Workers) -> None:
    session, name, gate = await client.session(default=options(max_retries=5)), unique("between"), asyncio.Event()
    workers.behave(by_attempt(failing("once"), held(gate, echo)), name)
    await client.submit(session, task(name))
    await workers.begun(name, 2)

    await client.cancel_session(session)
    gate.set()

    await client.until(name, CANCELED)
    assert len(workers.attempts_of(name)) == 2
    error = await client.available(session, out(name))
    assert error is not None and "once" in " ".join(reasons(error))


async def test_a_handler_that_ignores_cancellation() -> None:
    """Its process is replaced: the slot is back within 2 s and the agent's grace of 2 s."""
    async with cluster(worker=SPAWNED, slots=1) as process, Client(process.address) as client:
        session, deaf, after = await client.session(), unique("deaf"), unique("after")
        await client.submit(session, task(deaf), task_options=options(free={STALL: "yes"}))
        await client.until(deaf, PROCESSING)

        await client.cancel_tasks(by_tasks(deaf))
        replied_at = time.monotonic()
        assert await client.status(deaf) in {CANCELING, CANCELED}
        await client.submit(session, task(after))
        assert await client.available(session, out(after)) is None

        assert time.monotonic() - replied_at < 4.5
        await client.until(deaf, CANCELED)
