"""`ripieno top`, completion, and every look at a cluster where the terminal holds little or its reader goes away."""

import asyncio
import itertools
import json
import os
import pty
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from cli.calls import create_session
from cli.running import DEADLINE_S, running_up
from cli.test_waits import submit, task
from ripieno.cli.root import COMMANDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSION = "Zürich-東京-\U0001f600"
LOCALES = [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}]
LOOKS = [
    ("session", "list"),
    ("task", "list", "--columns", "id,session_id,status,error,options"),
    ("task", "list", "--output", "csv"),
    ("result", "list", "--columns", "key,session_id,name"),
    ("agent", "list"),
    ("partition", "list"),
    ("events",),
    ("explain", "fails-é"),
    ("explain", "waits-é", "--output", "json"),
    ("task", "show", "fails-é"),
    ("session", "show", SESSION),
    ("top", "--once"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A cluster whose session and tasks have names that not every terminal holds."""
    async with running_up(tmp_path_factory.mktemp("up") / "data", "--slots", "1") as up:
        await create_session(up.address, SESSION)
        await submit(
            up.address, SESSION, task("fails-é", "raise ValueError('ünï\x1b[31m')"), task("waits-é", "pass", "nobody")
        )
        await ran("task", "wait", "fails-é", at=up.address)
        yield up.address


async def started(
    *words: str, at: str, environment: dict[str, str] | None = None, stdout: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    """A command as a process, as a shell starts it."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ripieno", *words),
        env=os.environ | {"RIPIENO_ADDRESS": at} | (environment or {}),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )


async def ran(*words: str, at: str, environment: dict[str, str] | None = None) -> tuple[int | None, bytes, str]:
    process = await started(*words, at=at, environment=environment)
    async with asyncio.timeout(2 * DEADLINE_S):
        output, errors = await process.communicate()
    return process.returncode, output, errors.decode()


async def test_every_look_is_shown_whatever_the_terminal_holds(address: str) -> None:
    # Each is a process: half of them in either.
    for words, environment in zip(LOOKS, itertools.cycle(LOCALES), strict=False):
        code, output, errors = await ran(*words, at=address, environment=environment)
        ours = [line for line in errors.splitlines() if not line.startswith("cursor ")]
        assert (code, ours) == (0, []), (words, errors)
        assert output and b"\x1b" not in output, words


async def test_a_reader_that_goes_away_ends_looks_quietly(address: str) -> None:
    for words in LOOKS[1::2]:
        reader, writer = os.pipe()
        os.close(reader)
        process = await started(*words, at=address, stdout=writer)
        os.close(writer)
        async with asyncio.timeout(DEADLINE_S):
            _, errors = await process.communicate()
        assert process.returncode == 141, (words, errors)
        assert "Traceback" not in errors.decode() and "Error" not in errors.decode(), words


async def test_what_a_cluster_does(address: str) -> None:
    code, output, errors = await ran("top", "--output", "json", at=address)
    assert (code, errors) == (0, "")
    seen = json.loads(output)
    assert (seen["failed"], seen["submitted"], seen["claimable"], seen["running"]) == (1, 1, 0, 0)
    assert (seen["agents"], seen["slots"], seen["busy"], seen["rate"]) == (1, 1, 0, 0.0)
    assert seen["partitions"] == [{"name": "", "agents": 1, "slots": 1, "busy": 0, "claimable": 0}]
    assert seen["failures"] == [["ValueError: ünï\x1b[31m", 1]]
    code, output, errors = await ran("top", at=address)  # a pipe: once
    assert (code, errors) == (0, "")
    lines = output.decode().splitlines()
    assert lines[0].startswith(f"ripieno top  {address} ")
    assert lines[-1] == r"        1  ValueError: ünï\x1b[31m"


async def test_a_live_screen_until_ctrl_c(address: str) -> None:
    here, there = pty.openpty()
    process = await started(
        "top", "--every", "0.2", at=address, environment={"TERM": "xterm", "COLUMNS": "80"}, stdout=there
    )
    os.close(there)
    shown = b""
    async with asyncio.timeout(DEADLINE_S):
        while shown.count(b"ripieno top") < 3:
            shown += await asyncio.to_thread(os.read, here, 65_536)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(DEADLINE_S):
        shown += await asyncio.to_thread(_all_of, here)
        _, errors = await process.communicate()
    assert (process.returncode, errors.strip()) == (130, b"")
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l")  # the cursor and the screen are as they were


async def test_sentences_are_as_wide_as_the_terminal_and_commands_stay_whole(address: str) -> None:
    here, there = pty.openpty()
    process = await started(
        "explain", "fails-é", at=address, environment={"TERM": "xterm", "COLUMNS": "60"}, stdout=there
    )
    os.close(there)
    async with asyncio.timeout(DEADLINE_S):
        shown = await asyncio.to_thread(_all_of, here)
        assert await process.wait() == 0
    told = shown.decode().split("\r\n\r\n")[0].splitlines()
    assert len(told) > 3 and max(map(len, told)) <= 60
    assert all(line.count("`") % 2 == 0 for line in told)


def _all_of(terminal: int) -> bytes:
    """What is printed on a terminal until nobody has it open any more."""
    shown = b""
    with suppress(OSError):  # so Linux says that
        while more := os.read(terminal, 65_536):
            shown += more
    os.close(terminal)
    return shown


async def completed(address: str, *words: str) -> list[str]:
    """What bash is told when Tab is pressed behind these words."""
    variables = {
        "_RIPIENO_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("ripieno", *words)),
        "COMP_CWORD": str(len(words)),
    }
    code, output, errors = await ran(at=address, environment=variables)
    assert (code, errors) == (0, "")
    return [line.removeprefix("plain,") for line in output.decode().splitlines() if line]


async def test_words_are_completed(address: str) -> None:
    assert await completed(address, "expl") == ["explain"]
    assert await completed(address, "task", "wait", "fai") == ["fails-é"]
    assert await completed(address, "explain", "") == ["waits-é", "fails-é"]
    assert await completed(address, "session", "show", "") == [SESSION]
    assert await completed(address, "task", "show", "no such") == []


async def test_nothing_is_completed_where_no_cluster_answers(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        port = silent.getsockname()[1]
        assert await completed(f"127.0.0.1:{port}", "explain", "") == []
        for where in ("127.0.0.1:1", "no address", "nowhere.invalid:1,127.0.0.1:1"):
            assert await completed(where, "explain", "") == []


async def test_the_scripts_are_what_the_shells_take() -> None:
    for shell in ("bash", "zsh", "fish"):
        code, output, errors = await ran("completion", shell, at="127.0.0.1:1")
        assert (code, errors) == (0, "") and b"_RIPIENO_COMPLETE" in output
        if shutil.which(shell):
            check = await asyncio.create_subprocess_exec(shell, "-n", stdin=asyncio.subprocess.PIPE)
            await check.communicate(output)
            assert check.returncode == 0
    assert set(COMMANDS) >= {"top", "explain", "context", "completion"}
