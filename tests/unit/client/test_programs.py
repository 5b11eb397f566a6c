"""Whole programs: many clients, forgotten ones, interrupted ones; what they leave behind, and what they print."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from unit.client.cluster import FakeCluster

_WITHIN_S = 60.0
#: Warnings are errors, resources that nobody closed are told.
_PYTHON = (sys.executable, "-X", "dev", "-W", "error", "-c")


@asynccontextmanager
async def _running(program: str, cluster: FakeCluster) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(*_PYTHON, program, cluster.address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def _end(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(_WITHIN_S):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_clients_of_any_number_leave_nothing_behind(cluster: FakeCluster) -> None:
    program = """
import gc, os, sys, threading, time
from ripieno.client import Client

def use(client):
    session = client.session()
    tasks = session.submit_many([b"%d" % number for number in range(20)])
    assert sorted(result.data for result in session.results(tasks, timeout=20)) == sorted(b"%d" % n for n in range(20))
    assert tasks[0].result(timeout=20) == b"0"

def closed():
    with Client(sys.argv[1]) as client:
        use(client)

def forgotten():
    use(Client(sys.argv[1]))

def given_up():
    with Client(sys.argv[1]) as client:
        for result in client.session().results(["a", "b"], timeout=20):
            break

def in_threads(work):
    threads = [threading.Thread(target=lambda: [work() for _ in range(4)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def held():
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()

closed()
before = held()
for work in (closed, forgotten, given_up):
    for _ in range(10):
        work()
    in_threads(work)
deadline = time.monotonic() + 5
while held() > before and time.monotonic() < deadline:
    time.sleep(0.05)
assert held() <= before, (before, held())
left_open = Client(sys.argv[1])
use(left_open)
iterating = left_open.session().results(["never"])
print("end")
"""
    async with _running(program, cluster) as process:
        assert await _end(process) == (0, "end\n", "")


@pytest.mark.parametrize(
    "wait",
    [
        'session.result("never")',
        "session.wait()",
        'list(session.results(["never"]))',
        'list(session.result_chunks("never"))',
        "session.submit_many(b'x' for _ in range(100_000))",
        "session.submit(endless())",
    ],
)
async def test_ctrl_c_leaves_the_client_usable_and_the_terminal_quiet(wait: str, cluster: FakeCluster) -> None:
    program = f"""
import sys, time
from ripieno.client import Client, TaskDefinition

def endless():
    while True:
        yield b"y" * 10_000
        time.sleep(0.001)

with Client(sys.argv[1]) as client:
    session = client.session()
    if {"submit" not in wait}:
        session.submit(b"", expected_outputs=["never"])
    for _ in range(2):
        try:
            print("waiting", flush=True)
            {wait}
            print("not interrupted")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    print(session.submit(b"", id="again").id)
"""
    cluster.echo = False
    cluster.gate = asyncio.Event() if "submit_many" in wait else None
    async with _running(program, cluster) as process:
        assert process.stdout is not None
        async with asyncio.timeout(_WITHIN_S):
            for _ in range(2):
                assert await process.stdout.readline() == b"waiting\n"
                await asyncio.sleep(0.3)  # nothing tells from outside that it waits
                process.send_signal(signal.SIGINT)
                assert await process.stdout.readline() == b"interrupted\n"
        if cluster.gate is not None:
            cluster.gate.set()
        assert await _end(process) == (0, "again\n", "")
