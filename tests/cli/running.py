"""A `ripieno up` as a real process, and what can be asked of it."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

#: Longer than anything here takes on a busy machine.
DEADLINE_S = 30.0
READY = re.compile(r"ready at (\S+:\d+) ")


class RunningUp:
    """One `ripieno up` that has printed its ready line."""

    def __init__(self, process: asyncio.subprocess.Process, ready_line: str) -> None:
        self.process = process
        self.ready_line = ready_line
        found = READY.search(ready_line)
        assert found is not None, ready_line
        self.address = found.group(1)

    def child(self, name: str) -> psutil.Process | None:
        """The process that runs ``control``, ``agent`` or ``postgres``; None while there is none."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it may end while it is looked at
                if alive(child) and (name in child.cmdline() or Path(child.exe()).name == name):
                    return child
        return None

    def family(self) -> list[psutil.Process]:
        """All processes below it, it too."""
        itself = psutil.Process(self.process.pid)
        return [itself, *itself.children(recursive=True)]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signal it, wait for its end; return its exit code and all it said on standard error."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE_S):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


async def run_up(
    *arguments: str, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start `ripieno up` and return at once; in another folder, with other variables, where they are given."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ripieno", "up", *arguments),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def running_up(
    data: Path,
    *arguments: str,
    listen: str = "127.0.0.1:0",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[RunningUp]:
    """Start a cluster, wait for its ready line, and leave nothing of it behind."""
    process = await run_up("--data", str(data), "--listen", listen, *arguments, folder=folder, environment=environment)
    family: list[psutil.Process] = []
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            line = (await process.stdout.readline()).decode()
        if not line:
            _, errors = await process.communicate()
            raise AssertionError(f"ended with {process.returncode} before it was ready: {errors.decode()}")
        up = RunningUp(process, line)
        family = up.family()
        yield up
        await up.end()
        await until(lambda: not any(alive(member) for member in family))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def refused(*arguments: str) -> tuple[int, str]:
    """Start a `ripieno up` that is to end by itself; return its exit code and its message."""
    process = await run_up(*arguments)
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate()
    assert output == b""
    assert process.returncode is not None
    return process.returncode, errors.decode()


def alive(process: psutil.Process) -> bool:
    """Whether that very process still runs (a zombie does not)."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; fail when it does not within the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
