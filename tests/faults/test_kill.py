"""Any process of the cluster is killed in the middle of the work: every task ends, no result is lost or doubled."""

import asyncio
import shlex
import signal
import socket
import sys
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from cli.running import RunningUp, alive, running_up, until
from ripieno.client import AsyncClient, AsyncSession, AsyncTask, TaskFailedError, TaskOptions, TaskStatus

HERE = Path(__file__).parent
TASKS = 5_000
FINISHED_FIRST = 500
#: A lost agent is rescued from when its lease has run out (10 s), and a killed cluster restarts.
DEADLINE_S = 90.0


@pytest.fixture
def address() -> str:
    """A free address, the same before and after a restart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def cluster_arguments() -> list[str]:
    worker = f"{shlex.quote(sys.executable)} -m ripieno worker faults.squares:handle"
    return ["--slots", "2", "--worker", worker]


def workers(up: RunningUp) -> list[psutil.Process]:
    agent = up.child("agent")
    assert agent is not None
    return [child for child in agent.children(recursive=True) if alive(child) and "worker" in child.cmdline()]


async def submit(client: AsyncClient) -> tuple[AsyncSession, list[AsyncTask]]:
    session = await client.session(max_retries=3, max_duration=60)
    return session, await session.submit_many([str(number).encode() for number in range(TASKS)])


async def finished(session: AsyncSession, at_least: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await session.counts()).get(TaskStatus.COMPLETED, 0) < at_least:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def check_everything(session: AsyncSession, tasks: list[AsyncTask]) -> None:
    results = [(result.task, result.data) async for result in session.results(tasks, timeout=DEADLINE_S)]
    assert Counter(results) == Counter((task, str(number**2).encode()) for number, task in enumerate(tasks))
    assert await session.counts() == {TaskStatus.COMPLETED: TASKS}


@pytest.mark.parametrize("victim", ["control", "agent", "postgres", "worker"])
async def test_a_process_is_killed_in_the_middle(
    tmp_path: Path, address: str, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    async with (
        running_up(tmp_path / "data", *cluster_arguments(), listen=address) as up,
        AsyncClient(address) as client,
    ):
        session, tasks = await submit(client)
        await finished(session, FINISHED_FIRST)
        process = workers(up)[0] if victim == "worker" else up.child(victim)
        assert process is not None
        process.send_signal(signal.SIGKILL)
        await check_everything(session, tasks)


async def test_the_whole_cluster_is_killed_and_started_again(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    async with AsyncClient(address, patience=60) as client:
        async with running_up(tmp_path / "data", *cluster_arguments(), listen=address) as up:
            session, tasks = await submit(client)
            await finished(session, FINISHED_FIRST)
            for process in up.family():
                with suppress(psutil.NoSuchProcess):  # those that go with the first one are quick
                    process.kill()
            await up.process.wait()
        async with running_up(tmp_path / "data", *cluster_arguments(), listen=address):
            await check_everything(session, tasks)


async def test_what_a_killed_agent_ran_is_given_back_by_the_next_one(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason tells that no lease had to run out."""
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    worker = f"{shlex.quote(sys.executable)} -m ripieno worker faults.endless:handle"
    async with (
        running_up(tmp_path / "data", "--slots", "1", "--worker", worker, listen=address) as up,
        AsyncClient(address) as client,
    ):
        session = await client.session(max_retries=0, max_duration=300)
        task = await session.submit(str(tmp_path / "begun").encode())
        await until((tmp_path / "begun").exists)
        agent = up.child("agent")
        assert agent is not None
        agent.send_signal(signal.SIGKILL)
        with pytest.raises(TaskFailedError, match="was lost: its process ended"):
            await task.result(timeout=DEADLINE_S)


async def test_times_come_although_the_replica_is_killed_meanwhile(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    worker = f"{shlex.quote(sys.executable)} -m ripieno worker faults.sleeper:handle"
    async with (
        running_up(tmp_path / "data", "--slots", "1", "--worker", worker, listen=address) as up,
        AsyncClient(address) as client,
    ):
        session = await client.session(max_retries=0, max_duration=300)
        runs = await session.submit(b"300", task_options=TaskOptions(deadline=10))
        async with asyncio.timeout(DEADLINE_S):
            while await runs.status() is not TaskStatus.PROCESSING:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        waits = await session.submit(b"0", dependencies="nobody makes it", task_options=TaskOptions(deadline=2))
        early = await session.submit(b"0", task_options=TaskOptions(delay=2))
        control = up.child("control")
        assert control is not None
        control.send_signal(signal.SIGKILL)
        for task, while_it in ((waits, "waited"), (runs, "ran")):
            with pytest.raises(TaskFailedError, match=rf"its deadline \(.*\) passed while it {while_it}"):
                await task.result(timeout=DEADLINE_S)
        assert await early.result(timeout=DEADLINE_S) == b"slept"
        assert await session.wait(timeout=DEADLINE_S) == {TaskStatus.TIMEOUT: 2, TaskStatus.COMPLETED: 1}
        [row] = [row async for row in client.list_tasks(f"id='{early.id}'")]
        assert row.claimed_at is not None and row.claimed_at - row.submitted_at >= timedelta(seconds=2)
