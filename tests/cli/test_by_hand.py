"""`ripieno control` and `ripieno agent`, each started by hand."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.calls import create_session, sessions
from cli.running import DEADLINE_S

CONTROL_READY = re.compile(r"ripieno control ready at (127\.0\.0\.1:\d+)\n")


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[str]:
    """Start a command, give its ready line, end it by SIGTERM and see that it exits with 0."""
    process = await start(*arguments)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            yield (await process.stdout.readline()).decode()
            process.terminate()
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ripieno", *arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@asynccontextmanager
async def control(database_url: str, objects: Path) -> AsyncIterator[str]:
    flags = ("--database", database_url, "--listen", "127.0.0.1:0", "--objects", str(objects))
    async with running("control", *flags) as line:
        found = CONTROL_READY.fullmatch(line)
        assert found is not None, line
        yield found.group(1)


async def test_two_replicas_on_one_database_and_an_agent_that_knows_both(database_url: str, tmp_path: Path) -> None:
    async with control(database_url, tmp_path) as one, control(database_url, tmp_path) as other:
        await create_session(one, "s")
        assert await sessions(other) == ["s"]
        async with running("agent", "--control", f"{one},{other}", "--attach", f"unix:{tmp_path}/none") as line:
            assert line == f"ripieno agent ready, connected to {one},{other} (1 slot)\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_agent_without_a_control_plane_waits_and_can_be_stopped(number: signal.Signals) -> None:
    process = await start("agent", "--control", "127.0.0.1:1", "--attach", "127.0.0.1:2", "--log-level", "debug")
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE_S):
        await process.stderr.readline()  # it is at work, so it listens to signals
        process.send_signal(number)
        await process.communicate()
    assert process.returncode == 0


async def test_a_database_that_is_not_there_is_named_and_waited_for() -> None:
    url = "postgresql://nobody:secret@127.0.0.1:1/none"
    process = await start("control", "--database", url, "--listen", "127.0.0.1:0")
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE_S):
        told = (await process.stderr.readline()).decode()
        assert "opening the database does not work" in told
        assert "nobody@127.0.0.1:1/none" in told and "secret" not in told
        process.terminate()
        printed, errors = await process.communicate()
    assert process.returncode == 0
    assert printed == b""
    assert "Traceback" not in errors.decode()


async def test_a_database_that_refuses_us_is_named_and_ends_it(database_url: str) -> None:
    process = await start(
        "control", "--database", database_url.replace("/test_", "/no_such_"), "--listen", "127.0.0.1:0"
    )
    async with asyncio.timeout(DEADLINE_S):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in errors.decode()
    assert "does not exist" in errors.decode()


async def test_a_port_in_use_is_named_with_the_way_out(database_url: str, tmp_path: Path) -> None:
    async with control(database_url, tmp_path) as address:
        process = await start("control", "--database", database_url, "--listen", address)
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"cannot listen at {address}: the port is in use" in errors.decode()
