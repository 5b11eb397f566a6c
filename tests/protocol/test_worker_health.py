"""Part 3: HealthCheck, workers that are not there, and workers that die."""

import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from protocol.bare_client import Client, reasons
from protocol.bare_worker import NOT_SERVING, SERVING, BareWorker, bare_workers
from protocol.cluster import cluster
from protocol.conftest import Stage
from protocol.conversation import Conversation, by_attempt, echo
from protocol.deadlines import eventually
from protocol.messages import COMPLETED, ERROR, SUBMITTED, by_tasks, options, out, task, unique
from protocol.spawned_worker import DIE_AFTER_RECEIVING, DIE_AFTER_SENDING, RECEIVED, SENT

#: The command that the cluster starts a worker of this suite by.
SPAWNED = f"{sys.executable} -m protocol.spawned_worker {{address}}"


async def _asked(worker: BareWorker, times: int = 1) -> None:
    already = len(worker.health_checks)
    await eventually(lambda: len(worker.health_checks) >= already + times, "HealthCheck is asked while idle")


async def test_health_is_asked_while_idle(solo: Stage) -> None:
    await _asked(solo.workers.all[0], 2)


async def test_not_serving_for_a_while(solo: Stage) -> None:
    client, workers, [worker] = solo.client, solo.workers, solo.workers.all
    session, name = await client.session(), unique("not-serving")
    worker.health = NOT_SERVING
    try:
        await _asked(worker)
        await client.submit(session, task(name))
        await _asked(worker, 2)
        assert workers.attempts_of(name) == []
        assert await client.status(name) not in {COMPLETED, ERROR}
    finally:
        worker.health = SERVING

    assert await client.available(session, out(name)) is None
    assert [attempt.task_id for attempt in workers.attempts_of(name)] == [name]


async def test_health_check_unimplemented(solo: Stage) -> None:
    client, workers, [worker] = solo.client, solo.workers, solo.workers.all
    session, name = await client.session(), unique("unimplemented")
    worker.health = None
    try:
        await _asked(worker)
        await client.submit(session, task(name))
        assert await client.available(session, out(name)) is None
    finally:
        worker.health = SERVING
    assert len(workers.attempts_of(name)) == 1


async def test_a_worker_that_dies_and_comes_back(solo: Stage) -> None:
    client, workers, [worker] = solo.client, solo.workers, solo.workers.all
    session, name = await client.session(default=options(max_retries=1)), unique("back")

    async def die(call: Conversation) -> None:
        await call.task()
        call.attempt.cancelled = True  # By its own server's end, which looks the same from in here.
        await worker.stop()

    workers.behave(by_attempt(die, echo), name)
    await client.submit(session, task(name))
    await workers.begun(name)
    await eventually(lambda: not worker.serves, "the worker is gone")
    await worker.start()

    assert await client.available(session, out(name)) is None
    assert [attempt.task_id for attempt in workers.attempts_of(name)] == [name, f"{name}###1"]


async def test_a_worker_that_is_away_uses_up_no_attempt(solo: Stage) -> None:
    client, workers, [worker] = solo.client, solo.workers, solo.workers.all
    session, first, later = await client.session(), unique("first"), unique("later")
    await client.submit(session, task(first))
    assert await client.available(session, out(first)) is None
    await worker.stop()
    try:
        await client.submit(session, task(later))
        assert await client.status(later) != COMPLETED
    finally:
        await worker.start()

    counts = await client.wait(by_tasks(later))
    if counts == {ERROR: 1}:
        # "refuses the connection" is an attempt like any other, if it began: then it says so.
        assert reasons(await client.available(session, out(later)))
    else:
        assert counts == {COMPLETED: 1}
        assert [attempt.task_id for attempt in workers.attempts_of(later)] == [later]


async def test_a_worker_that_is_not_up_yet() -> None:
    async with bare_workers(1, started=False) as workers:
        [worker] = workers.all
        worker.health = None
        async with cluster(attach=workers.addresses) as process, Client(process.address) as client:
            session, name = await client.session(), unique("early")
            await client.submit(session, task(name))
            assert await client.status(name) == SUBMITTED
            await worker.start()
            assert await client.available(session, out(name)) is None
            assert len(workers.attempts_of(name)) == 1
            assert worker.health_checks, "HealthCheck is asked before first use"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def spawning() -> AsyncIterator[Client]:
    """A cluster of two workers that it spawns itself."""
    async with cluster(worker=SPAWNED, slots=2) as process, Client(process.address) as client:
        yield client


@pytest.mark.parametrize("option", [DIE_AFTER_RECEIVING, DIE_AFTER_SENDING])
async def test_a_spawned_worker_dies_at_every_message(spawning: Client, option: str) -> None:
    """Each death costs one attempt of the task that runs there, and nothing else."""
    session = await spawning.session()
    key, last = unique("death-key"), RECEIVED if option == DIE_AFTER_RECEIVING else SENT
    await spawning.submit(session, task(key, [key], payload=b"dependency"))
    names = {unique("death"): number for number in range(1, last + 1)}
    for name, number in names.items():
        deadly = options(max_retries=1, free={option: str(number)})
        await spawning.submit(session, task(name, needs=[key], payload=b"payload"), task_options=deadly)
    await spawning.finish(session)

    errors = {number: await spawning.available(session, out(name)) for name, number in names.items()}
    assert {number: reasons(error) for number, error in errors.items() if error} == {}
    for name, number in names.items():
        made_by = (await spawning.result(session, out(name))).decode()
        # Dying after Output was sent may come too late to undo it.
        assert made_by == f"{name}###1" or (made_by == name and (option, number) == (DIE_AFTER_SENDING, SENT)), number


async def test_a_worker_that_dies_always(spawning: Client) -> None:
    session, name = await spawning.session(), unique("deadly")
    fatal = options(max_retries=1, free={DIE_AFTER_RECEIVING: "1", "always": "yes"})
    await spawning.submit(session, task(name), task_options=fatal)

    error = await spawning.available(session, out(name), timeout_s=60)

    assert error is not None and [entry.task_status for entry in error.errors] == [ERROR, ERROR]
    after = unique("deadly-after")
    await spawning.submit(session, task(after))
    assert await spawning.available(session, out(after)) is None
