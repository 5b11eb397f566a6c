"""The cluster under test: `ripieno up`, and beside it a second replica and a second agent."""

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import psutil

from cli.running import RunningUp, alive, running_up

_READY = re.compile(r"ready at (\S+:\d+)")
_TESTS = Path(__file__).parent.parent
_DATABASE_VARIABLE = "RIPIENO_DATABASE"
#: Where nobody works: what is submitted to it waits.
NOWHERE = "nowhere"

#: What may be stopped or killed, by the name of its role.
ROLES = ("control", "control-b", "agent", "agent-b", "worker", "postgres")


class Stage:
    """The processes of the cluster, by role.

    Attributes:
        up: The first half, made by `ripieno up`.
        database: The URL of its PostgreSQL.
        address_b: Where the second replica listens.
        disk: The small file system that the data directory is on; None where there is none.
    """

    def __init__(self, up: RunningUp, data: Path, disk: Path | None) -> None:
        self.up = up
        self.data = data
        self.disk = disk
        control = up.child("control")
        assert control is not None, "up is ready"
        self.database = control.environ()[_DATABASE_VARIABLE]
        self.address_b = ""
        self.second: dict[str, asyncio.subprocess.Process] = {}

    def processes(self, role: str) -> list[psutil.Process]:
        """Those of a role that are alive: PostgreSQL has many, a worker is one of the first agent's."""
        if role in self.second:
            process = self.second[role]
            return [psutil.Process(process.pid)] if process.returncode is None else []
        if role == "worker":
            return self.workers("agent")[:1]
        child = self.up.child(role) if self.up.process.returncode is None else None
        if child is None:
            return []
        if role != "postgres":
            return [child]
        with suppress(psutil.Error):
            return [child, *child.children(recursive=True)]
        return []

    def workers(self, agent: str) -> list[psutil.Process]:
        """The worker processes of an agent."""
        found: list[psutil.Process] = []
        for process in self.processes(agent):
            with suppress(psutil.Error):
                found += [each for each in process.children(recursive=True) if alive(each) and _is_worker(each)]
        return found

    def everybody(self) -> dict[str, list[psutil.Process]]:
        """All processes whose memory is looked at, by role."""
        found = {role: self.processes(role) for role in ("control", "control-b", "agent", "agent-b")}
        return found | {"workers": self.workers("agent"), "workers-b": self.workers("agent-b")}

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection to the database, of the superuser."""
        connection = await asyncpg.connect(self.database, timeout=30)
        try:
            await connection.execute("set search_path to ripieno; set default_transaction_read_only to off")
            yield connection
        finally:
            await connection.close(timeout=10)

    async def start_second(self, role: str) -> None:
        """Start the second replica or the second agent, again if it has died."""
        worker = worker_command()
        arguments = {
            "control-b": ("control", "--listen", self.address_b or "127.0.0.1:0", "--objects", self.data / "objects"),
            "agent-b": (
                "agent",
                "--control",
                f"{self.address_b},{self.up.address}",
                "--slots",
                "1",
                "--worker",
                worker,
            ),
        }[role]
        with (self.data / "logs" / f"{role}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ripieno", *map(str, arguments)),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, _DATABASE_VARIABLE: self.database},
            )
        assert process.stdout is not None
        self.second[role] = process
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        if role == "control-b":
            found = _READY.search(line)
            assert found is not None, f"control-b did not say that it is ready but {line!r}"
            self.address_b = found.group(1)

    async def stop_second(self) -> None:
        """End what ``start_second`` started."""
        for process in reversed(list(self.second.values())):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(60):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()


def _is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "worker" in process.cmdline()
    return False


def worker_command() -> str:
    """The command of the workers."""
    return f"{shlex.quote(sys.executable)} -m ripieno worker soak.handlers:handle"


@asynccontextmanager
async def stage(place: Path) -> AsyncIterator[Stage]:
    """Start the whole cluster below a directory, and leave nothing of it behind."""
    os.environ["PYTHONPATH"] = str(_TESTS)
    async with AsyncExitStack() as stack:
        disk = await stack.enter_async_context(_small_disk(place / "disk"))
        data = (disk or place) / "data"
        options = ("--slots", "2", "--worker", worker_command(), "--drain", "5")
        up = await stack.enter_async_context(running_up(data, *options))
        whole = Stage(up, data, disk)
        stack.push_async_callback(whole.stop_second)
        for role in ("control-b", "agent-b"):
            await whole.start_second(role)
        yield whole


@asynccontextmanager
async def _small_disk(path: Path, megabytes: int = 5_000) -> AsyncIterator[Path | None]:
    """A file system that can be filled; None where we may not make one (that takes root)."""
    path.mkdir()
    if await _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(path)):
        yield None
        return
    try:
        yield path
    finally:
        await _run("umount", "-l", str(path))


async def _run(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


def signal_all(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Signal those of the processes that are still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
