"""The worker and the client in JavaScript: real processes, one worker started by its agent, one attached to another.

`make test` installs their packages first; where there is no Node.js it says so, and leaves this file out. There is no
other condition: without the packages these tests fail.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.cluster import cluster, running
from protocol.deadlines import PATIENCE_S
from ripieno.client import AsyncClient, TaskFailedError

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE = Path(__file__).parents[2] / "examples" / "node"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address() -> AsyncIterator[str]:
    """A cluster with two workers in JavaScript."""
    assert (NODE / "node_modules").is_dir(), "the packages of the example are not installed: run `make node`"
    sockets = Path(tempfile.mkdtemp(prefix="rp-n-"))  # a socket's path may not be longer than about 100 bytes
    try:
        async with (
            attached(f"unix:{sockets}/worker") as existing,
            cluster(worker=f"node {NODE}/worker.js", slots=1) as up,
            running("agent", "--control", up.address, "--attach", existing),
        ):
            yield up.address
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


@contextlib.asynccontextmanager
async def attached(address: str) -> AsyncIterator[str]:
    """A worker that is there before the cluster, and stops when it is asked to."""
    process = await asyncio.create_subprocess_exec(
        "node", str(NODE / "worker.js"), address, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.stdout.readline() == f"worker ready on {address}\n".encode()
        yield address
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def count(address: str, limit: str) -> tuple[int | None, str, str]:
    """Run the client; its exit code, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(NODE / "client.js"), limit),
        env=os.environ | {"RIPIENO_ADDRESS": address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * PATIENCE_S):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_a_client_and_workers_in_javascript(address: str) -> None:
    assert await count(address, "200000") == (0, "17984 primes below 200000\n", "")


async def test_the_client_tells_the_story_of_a_failure(address: str) -> None:
    code, output, errors = await count(address, "many")
    assert (code, output) == (1, "")
    assert re.search(r"total' did not make it: TASK_STATUS_ERROR: input 'part \d' was aborted: task", errors)
    assert "from and to are integers, not null and null" in errors


async def test_workers_in_javascript_with_the_sdk_of_python(address: str) -> None:
    async with AsyncClient(address) as client:
        session = await client.session(max_retries=1)
        # Many chunks, as payload and as dependencies.
        large = b'{"from": 2, "to": 100}' + b" " * 1_000_000
        counted = [await session.submit(large), await session.submit(b'{"from": 100, "to": 200}')]
        total = await session.submit(b'{"add": true}', dependencies=counted)
        assert await total.result(timeout=PATIENCE_S) == b"46"
        wrong = await session.submit(b"primes, please")
        with pytest.raises(TaskFailedError, match="the payload is not JSON") as failed:
            await wrong.result(timeout=PATIENCE_S)
        assert len(failed.value.attempts) == 1, "an Output error is final"
