"""Forks of a program that uses clients: whoever cannot go on is told, and nobody waits for ever."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from unit.client.cluster import FakeCluster

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

_WITHIN_S = 40.0

#: What all programs share: `forked` runs a function in a child and says how that ended.
_BEGIN = """
import asyncio, os, sys, threading, time, warnings
from ripieno.client import AsyncClient, Client

warnings.simplefilter("ignore", DeprecationWarning)  # of Python itself, for threads that are not ours
address = sys.argv[1]

def forked(work):
    child = os.fork()
    if not child:
        try:
            print("child", work(), flush=True)
        except Exception as error:
            print("child", type(error).__name__, error, flush=True)
        os._exit(0)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.01)
    print("child hangs", flush=True)
    os.kill(child, 9)
    os.waitpid(child, 0)

def own():
    with Client(address) as client:
        return client.session().submit(b"own").result(timeout=10)
"""


async def _run(program: str, cluster: FakeCluster) -> tuple[list[str], str]:
    """Run a program to its end; its lines of output, and what it complained of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-c", _BEGIN + program, cluster.address),
        cwd=Path.cwd(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_WITHIN_S):
        output, errors = await process.communicate()
    return output.decode().splitlines(), errors.decode()


async def test_a_child_opens_clients_of_its_own_and_the_parent_goes_on(cluster: FakeCluster) -> None:
    program = """
client, other = Client(address), Client(address)
session = client.session()
other.session()
for _ in range(10):
    assert session.submit(b"parent").result(timeout=10) == b"parent"
    forked(own)
forked(lambda: (forked(own), own())[1])
client.close()
other.close()
forked(own)
print("parent", session.id != "")
"""
    lines, errors = await _run(program, cluster)
    assert lines == ["child b'own'"] * 13 + ["parent True"]
    assert errors == ""


async def test_a_client_from_before_the_fork_refuses_calls_in_the_child(cluster: FakeCluster) -> None:
    program = """
client = Client(address)
session = client.session()
task = session.submit(b"parent")
for use in (task.result, task.status, session.wait, lambda: session.submit(b""), client.session,
            lambda: list(session.results([task])), lambda: list(session.result_chunks(task))):
    forked(use)
forked(client.close)
forked(lambda: client.__exit__(None, None, None))
print(task.result(timeout=10))
"""
    lines, errors = await _run(program, cluster)
    assert len(lines) == 10
    for line in lines[:7]:
        assert line.startswith("child RuntimeError the client was opened in process ")
        assert line.endswith("open a client in the process that uses it")
    assert lines[7:] == ["child None", "child None", "b'parent'"]
    assert errors == ""


@pytest.mark.parametrize("how", ["call", "iteration", "async client"])
async def test_where_grpc_cannot_rest_the_child_is_told_and_the_parent_is_not_disturbed(
    how: str, cluster: FakeCluster
) -> None:
    cluster.echo = False
    begin = {
        "call": """
client = Client(address)
session = client.session(id="s")
task = session.submit(b"", id="t")
waiting = threading.Thread(target=lambda: print("parent", task.result(timeout=20), flush=True))
waiting.start()
time.sleep(0.3)
""",
        "iteration": """
client = Client(address)
session = client.session(id="s")
results = session.results([session.submit(b"", id="a"), session.submit(b"", id="t")], timeout=20)
waiting = threading.Thread(target=lambda: print("parent", [result.data for result in results][-1], flush=True))
waiting.start()
time.sleep(0.3)
""",
        "async client": """
ready = threading.Event()
async def wait():
    async with AsyncClient(address) as client:
        session = await client.session(id="s")
        task = await session.submit(b"", id="t")
        ready.set()
        print("parent", await task.result(timeout=20), flush=True)
waiting = threading.Thread(target=lambda: asyncio.run(wait()))
waiting.start()
ready.wait()
time.sleep(0.3)
""",
    }
    running = asyncio.create_task(
        _run(begin[how] + "forked(own)\nprint('forked', flush=True)\nwaiting.join()\n", cluster)
    )
    await cluster.until(lambda: any("t" in keys for keys in cluster.asked))
    await asyncio.sleep(1)  # the fork happens meanwhile; nothing tells us from there
    if how == "iteration":
        await cluster.finish("s", "a", b"first")
    await cluster.finish("s", "t", b"done")
    lines, errors = await running
    [told] = [line for line in lines if line.startswith("child")]
    assert told.startswith("child RuntimeError no client can be opened in this process: it was forked while")
    assert "spawn" in told
    assert sorted(set(lines) - {told}) == ["forked", "parent b'done'"]
    assert errors == ""
