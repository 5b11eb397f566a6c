"""Handlers that start processes, and change the process that they run in: they may, and the next task does not notice."""

import asyncio
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from ripieno.worker.process.forks import blind_sockets
from unit.worker import requests
from unit.worker.agents import Agent, agent_of, rest_of, results_of
from unit.worker.processes import WorkerProcess, worker_process


@pytest.fixture(scope="module", params=["handle", "handle_async"])
def worker(request: pytest.FixtureRequest) -> Iterator[WorkerProcess]:
    with worker_process(f"rough:{request.param}") as process:
        yield process


@pytest_asyncio.fixture
async def agent(worker: WorkerProcess) -> AsyncIterator[Agent]:
    async with agent_of(worker.address, "batch") as agent:
        yield agent


async def ran(agent: Agent, payload: str) -> str:
    """What a task of one result makes."""
    run = await agent.begin(requests.whole_task("t", payload.encode(), keys=["r"]))
    async with asyncio.timeout(90):
        replies = await rest_of(run)
    assert run.failed is None, run.failed
    return results_of(replies)["r"].decode()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    ("way", "made"), [("pool", "285"), ("executor", "285"), ("given-up", "gave up"), ("terminated", "-15")]
)
async def test_pools_and_processes_of_every_method(agent: Agent, way: str, method: str, made: str) -> None:
    assert await ran(agent, f"{way} {method}") == made
    assert await ran(agent, "shell echo $((1 + 1))") == "2"


@pytest.mark.parametrize(
    ("how", "code"), [("exits", 7), ("raises", 1), ("interrupted", 1), ("signals", -15), ("returns", 0)]
)
async def test_a_forked_child_ends_as_any_program_and_never_returns_into_the_worker(
    agent: Agent, how: str, code: int
) -> None:
    pid = await ran(agent, "pid")
    assert await ran(agent, f"forked {how}") == str(code)
    assert await ran(agent, "pid") == pid


async def test_a_child_cannot_speak_for_the_worker(worker: WorkerProcess) -> None:
    with worker_process("rough:handle") as process:
        async with agent_of(process.address, "batch") as agent:
            assert await ran(agent, "forked sends") == "1"


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address.removeprefix("unix:"))
        except ConnectionRefusedError:
            return False
    return True


async def test_a_child_that_goes_on_does_not_keep_a_dead_worker_s_address() -> None:
    with worker_process("rough:handle") as process:
        async with agent_of(process.address, "batch") as agent:
            child = psutil.Process(int(await ran(agent, "left")))
        try:
            process.process.kill()
            process.process.wait()
            async with asyncio.timeout(20):
                while _answers(process.address):  # noqa: ASYNC110 - until the child has come to run at all
                    await asyncio.sleep(0.02)
            assert child.is_running()
        finally:
            child.kill()


@pytest.mark.parametrize("family", ["unix", "tcp"])
def test_only_the_sockets_of_the_address_are_let_go_of(family: str, tmp_path: Path) -> None:
    kind = socket.AF_UNIX if family == "unix" else socket.AF_INET
    with socket.socket(kind) as ours, socket.socket(kind) as theirs, socket.socket(kind) as dialled:
        for name, each in (("ours", ours), ("theirs", theirs)):
            each.bind(str(tmp_path / name) if family == "unix" else ("127.0.0.1", 0))
            each.listen()
        dialled.connect(ours.getsockname())
        accepted, _ = ours.accept()
        address = f"unix:{tmp_path / 'ours'}" if family == "unix" else f"127.0.0.1:{ours.getsockname()[1]}"
        with accepted:
            if os.fork() == 0:
                blind_sockets(address)
                kept = [stat.S_ISSOCK(os.fstat(each.fileno()).st_mode) for each in (ours, accepted, theirs, dialled)]
                os._exit(0 if kept == [False, False, True, True] else 1)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == 0


async def test_the_place_is_put_back(agent: Agent, tmp_path: Path) -> None:
    before = await ran(agent, "place")
    assert await ran(agent, f"moved {tmp_path / 'gone'}") == "moved"
    assert await ran(agent, "place") == before


async def test_closed_streams_are_put_back_before_anything_else_gets_their_numbers(agent: Agent) -> None:
    before = await ran(agent, "printed")
    assert await ran(agent, "streams-closed") == "closed"
    assert await ran(agent, "printed") == before


@pytest.mark.parametrize("way", ["threads-left", "text-streams", "own-loop thread"])
async def test_what_is_left_behind_does_no_harm(agent: Agent, way: str) -> None:
    pid = await ran(agent, "pid")
    await ran(agent, way)
    assert await ran(agent, "pid") == pid


async def test_a_handler_may_run_a_loop_of_its_own() -> None:
    with worker_process("rough:handle") as process:
        async with agent_of(process.address, "batch") as agent:
            assert await ran(agent, "own-loop") == "slept"
            assert await ran(agent, "own-loop") == "slept"


@pytest.mark.parametrize("handler", ["handle", "handle_async"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_handler_s_signal_handlers_do_not_keep_the_worker_from_ending(
    handler: str, number: signal.Signals
) -> None:
    with worker_process(f"rough:{handler}") as process:
        async with agent_of(process.address, "batch") as agent:
            assert await ran(agent, "signals-taken") == "taken"
            await ran(agent, "pid")
        process.process.send_signal(number)
        assert await asyncio.to_thread(process.process.wait, 10) == 0
