"""Processes that stand still for longer than a lease and go on: nobody loses an attempt by that."""

import asyncio
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cli.running import RunningUp, running_up
from cli.test_by_hand import start
from ripieno.client import AsyncClient, AsyncSession, AsyncTask

HERE = Path(__file__).parent
#: Longer than a lease (10 s).
STOPPED_S = 14.0
DEADLINE_S = 90.0
WORKER = f"{shlex.quote(sys.executable)} -m ripieno worker faults.sleeper:handle"


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))


async def stand_still(processes: Sequence[psutil.Process], seconds: float = STOPPED_S) -> None:
    send(signal.SIGSTOP, processes)
    try:
        await asyncio.sleep(seconds)
    finally:
        send(signal.SIGCONT, [*reversed(processes)])


def send(number: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    """Signal them all; one that was about to end (the server's side of a session, say) may have ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


async def busy(client: AsyncClient, count: int, seconds: float) -> tuple[AsyncSession, list[AsyncTask]]:
    """Tasks that run, and may not be tried twice."""
    session = await client.session(max_retries=0, max_duration=600)
    tasks = await session.submit_many([str(seconds).encode()] * count)
    await asyncio.sleep(2)
    return session, tasks


async def check(session: AsyncSession, tasks: Sequence[AsyncTask]) -> None:
    results = [result async for result in session.results(tasks, timeout=DEADLINE_S)]
    assert [result.error or result.data for result in results] == [b"slept"] * len(tasks)


def family(up: RunningUp, who: str) -> Sequence[psutil.Process]:
    """The processes of one part; PostgreSQL is several, and the workers below an agent are not the agent."""
    one = up.child(who)
    if one is None:
        return up.family()
    return [one, *one.children(recursive=True)] if who == "postgres" else [one]


@pytest.mark.parametrize("who", ["control", "agent", "postgres", "everybody"])
async def test_one_machine(tmp_path: Path, who: str) -> None:
    async with (
        running_up(tmp_path / "data", "--slots", "2", "--worker", WORKER) as up,
        AsyncClient(up.address, patience=60) as client,
    ):
        session, tasks = await busy(client, 4, 10)
        await stand_still(family(up, who))
        await check(session, tasks)


@asynccontextmanager
async def replicas(database_url: str, objects: Path, count: int) -> AsyncIterator[list[tuple[psutil.Process, str]]]:
    """Control planes of one cluster, with their addresses."""
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(count):
            flags = ("--database", database_url, "--listen", "127.0.0.1:0", "--objects", str(objects))
            process = await start("control", *flags)
            stack.push_async_callback(process.communicate)
            stack.callback(process.send_signal, signal.SIGTERM)
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            started.append((psutil.Process(process.pid), line.split("ready at ")[1].strip()))
        yield started


@pytest.mark.parametrize("agent_knows", [1, 2])
async def test_a_replica_beside_one_that_is_awake(database_url: str, tmp_path: Path, agent_knows: int) -> None:
    """Its agents move to the other one; those that know no other are left alone by it."""
    async with replicas(database_url, tmp_path, 2) as ((stopped, its_address), (_, other_address)):
        control = ",".join([its_address, other_address][:agent_knows])
        agent = await start("agent", "--control", control, "--slots", "2", "--worker", WORKER)
        try:
            async with AsyncClient(other_address) as client:
                session, tasks = await busy(client, 4, 10)
                await stand_still([stopped], 20)
                await check(session, tasks)
        finally:
            agent.send_signal(signal.SIGTERM)
            await agent.communicate()
