"""Servers that were started by somebody with habits of his own: signals ignored, output unread, no init above them."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cli.calls import create_session
from cli.running import DEADLINE_S, READY, alive, until

RIPIENO = f"{sys.executable} -m ripieno"


async def started(command: str, *, stderr: int = subprocess.PIPE) -> tuple[asyncio.subprocess.Process, str]:
    """A shell that becomes ``command``; the process, and its address once it is ready."""
    # Who runs the tests may ignore hang-ups (`nohup`), and a shell cannot take that back.
    heeding = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execvp('sh', sys.argv[1:])"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", heeding, "sh", "-c", command), stdout=subprocess.PIPE, stderr=stderr
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        line = (await process.stdout.readline()).decode()
    found = READY.search(line)
    assert found is not None, line
    return process, found.group(1)


async def code_of(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(DEADLINE_S):
        return await process.wait()


async def test_signals_that_the_starter_ignores_work_all_the_same(tmp_path: Path) -> None:
    up, address = await started(
        f"trap '' TERM INT CHLD PIPE; exec {RIPIENO} up --data {tmp_path} --listen 127.0.0.1:0 --slots 1"
    )
    await create_session(address, "s")
    up.send_signal(signal.SIGTERM)
    assert await code_of(up) == 0


@pytest.mark.parametrize("ignored", [False, True])
async def test_a_hang_up_drains_unless_the_starter_wants_it_ignored(tmp_path: Path, ignored: bool) -> None:
    trap = "trap '' HUP;" if ignored else ""
    up, address = await started(f"{trap} exec {RIPIENO} up --data {tmp_path} --listen 127.0.0.1:0 --slots 1")
    up.send_signal(signal.SIGHUP)
    if ignored:
        await create_session(address, "s")
        up.send_signal(signal.SIGTERM)
    assert await code_of(up) == 0


async def test_nothing_waits_for_a_reader_of_standard_error(tmp_path: Path) -> None:
    """The pipe is full before anything is said; the cluster serves, loses its agent, and stops as ever."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    try:
        up, address = await started(
            f"exec {RIPIENO} up --data {tmp_path} --listen 127.0.0.1:0 --slots 1 --worker false", stderr=writing
        )
        agent = next(
            child for child in psutil.Process(up.pid).children() if "agent" in child.cmdline() and alive(child)
        )
        agent.kill()
        await until(
            lambda: any("agent" in child.cmdline() for child in psutil.Process(up.pid).children() if child != agent)
        )
        await create_session(address, "s")
        up.send_signal(signal.SIGTERM)
        assert await code_of(up) == 0
    finally:
        os.close(reading)
        os.close(writing)


#: What a container's only command goes through: it is process 1, and orphans of others come to it.
AS_FIRST = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
can_unshare = pytest.mark.skipif(
    subprocess.run([*AS_FIRST, "true"], capture_output=True, check=False).returncode != 0,
    reason="no right to make a namespace of processes",
)
FIRST = """
import os, signal, subprocess, sys, time
from ripieno.cli.process.inherited import prepare_process
prepare_process()
assert os.getpid() != 1
subprocess.run([sys.executable, "-c", "import os\\nfor _ in range(30):\\n  if os.fork() == 0: os._exit(0)\\nos._exit(0)"])
deadline = time.monotonic() + 10
def left():
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and pid not in ("1", str(os.getpid()))]
while left() and time.monotonic() < deadline: time.sleep(0.01)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(len(left()), flush=True)
END
"""


@can_unshare
@pytest.mark.parametrize(
    ("end", "code"), [("time.sleep(300)", 7), ("sys.exit(5)", 5), ("os.kill(os.getpid(), signal.SIGKILL)", 137)]
)
async def test_process_1_takes_note_of_orphans_and_passes_signals_on(end: str, code: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *AS_FIRST, sys.executable, "-c", FIRST.replace("END", end), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        assert (await process.stdout.readline()).strip() == b"0"
    if "sleep" in end:
        first = psutil.Process(process.pid).children()[0]
        first.send_signal(signal.SIGTERM)
    assert await code_of(process) == code
