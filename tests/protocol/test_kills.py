"""``kill -9`` of any process of a cluster in the middle of its work: every task ends, no result is lost or doubled."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import grpc
import psutil
import pytest

from protocol.bare_client import Client, perhaps_refused
from protocol.bare_worker import Workers, bare_workers
from protocol.cluster import Process, cluster
from protocol.deadlines import PATIENCE_S, eventually
from protocol.messages import COMPLETED, by_sessions, by_tasks, options, out, task, unique
from protocol.test_worker_health import SPAWNED

T = TypeVar("T")

_BATCH = 100
#: How the command line of each process of ``ripieno up`` is known.
_COMMANDS = {"control": " ripieno control ", "agent": " ripieno agent ", "postgres": "postgres -D"}


def _find(process: Process, kind: str) -> psutil.Process:
    [found] = [
        each for each in psutil.Process(process.pid).children() if _COMMANDS[kind] in f" {' '.join(each.cmdline())} "
    ]
    return found


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that is safe to repeat until somebody answers; no error but UNAVAILABLE is let pass."""
    deadline, answers = time.monotonic() + 2 * PATIENCE_S, list[T]()
    while not answers:
        assert time.monotonic() < deadline, "nobody answers"
        with perhaps_refused(grpc.StatusCode.UNAVAILABLE):
            answers.append(await call())
        if not answers:
            await asyncio.sleep(0.05)  # Between two attempts to reach a server that is not there.
    return answers[0]


async def _kill(process: Process, kind: str) -> None:
    victim = _find(process, kind)
    victim.kill()
    await eventually(lambda: not victim.is_running() or _is_zombie(victim), f"{kind} is gone")


async def _submit_all(client: Client, session: str, names: list[str]) -> None:
    for start in range(0, len(names), _BATCH):
        tasks = [task(name, payload=name.encode()) for name in names[start : start + _BATCH]]
        await _patiently(partial(client.submit, session, *tasks))


@pytest.mark.parametrize("kind", list(_COMMANDS))
@pytest.mark.parametrize("size", [1_000, pytest.param(5_000, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
async def test_kill_in_the_middle(kind: str, size: int) -> None:
    async with (
        bare_workers(3) as workers,
        cluster(attach=workers.addresses) as process,
        Client(process.address) as client,
    ):
        session = await client.session(default=options(max_retries=3))
        names = [unique("killed") for _ in range(size)]
        async with asyncio.TaskGroup() as group:
            group.create_task(_submit_all(client, session, names))
            for part in (size // 3, size // 2):
                await eventually(partial(_ran, workers, part), f"{part} tasks ran")
                await _kill(process, kind)

        await _patiently(lambda: client.finish(session, timeout_s=90))

        assert await client.counts(by_sessions(session)) == {COMPLETED: size}
        assert await client.listed(by_sessions(session)) == names
        for name in names:
            assert await client.result(session, out(name)) == name.encode()
        assert process.exit_status is None


def _ran(workers: Workers, count: int) -> bool:
    return len(workers.attempts) >= count


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_kill_of_workers() -> None:
    async with cluster(worker=SPAWNED, slots=2) as process, Client(process.address) as client:
        session = await client.session(default=options(max_retries=20))
        names = [unique("killed") for _ in range(600)]
        await client.submit(session, *map(task, names))
        for quarter in (1, 2, 3):
            done = 150 * quarter

            async def reached(done: int = done) -> bool:
                return (await client.counts(by_sessions(session))).get(COMPLETED, 0) >= done

            await eventually(reached, f"{done} tasks are done")
            workers = [each for each in process.tree() if "protocol.spawned_worker" in each.cmdline()]
            workers[0].kill()

        assert await client.finish(session) == {COMPLETED: 600}
        # An attempt's id is its result: no task was run more often than workers died.
        results = [(await client.result(session, out(name))).decode() for name in names]
        assert [made.partition("###")[0] for made in results] == names


@pytest.mark.long
@pytest.mark.parametrize("kind", list(_COMMANDS))
async def test_what_was_accepted_before_a_kill_is_there_after(kind: str) -> None:
    async with (
        bare_workers(1) as workers,
        cluster(attach=workers.addresses) as process,
        Client(process.address) as client,
    ):
        # A retry: what follows the kill may be on its way to the agent that has just died.
        session, name = await client.session(default=options(max_retries=1)), unique("durable")
        done, waits = f"{name} done", f"{name} waits"
        await client.submit(session, task(done, payload=b"kept"), task(waits, needs=["later"]))
        assert await client.available(session, out(done)) is None

        await _kill(process, kind)

        statuses = await _patiently(lambda: client.statuses(done, waits))
        assert statuses[done] == COMPLETED and waits in statuses
        assert await _patiently(lambda: client.result(session, out(done))) == b"kept"
        await _patiently(lambda: client.submit(session, task(name, ["later"], payload=b"now")))
        await _patiently(lambda: client.wait(by_tasks(waits)))
        assert await client.finish(session) == {COMPLETED: 3}
