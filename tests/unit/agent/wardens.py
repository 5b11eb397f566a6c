"""A warden without an agent, and what can be asked of it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from ripieno.agent.workers.supervisor import WorkerProcess, Workshop


def python(program: str) -> list[str]:
    """The command of a worker that is a Python program."""
    return [sys.executable, "-c", program]


@asynccontextmanager
async def minded(command: list[str], tmp_path: Path, **changes: object) -> AsyncIterator[WorkerProcess]:
    """A worker with its warden; stopped at the end. What it prints is in ``worker-0.log``."""
    workshop = Workshop(command, **{"logs": tmp_path, **changes})  # type: ignore[arg-type]
    process = WorkerProcess.start(workshop, f"unix:{tmp_path}/w.sock", 0)
    try:
        yield process
    finally:
        await process.stop()


async def outcome(command: list[str], tmp_path: Path, **changes: object) -> str:
    """How a worker ends by itself."""
    async with minded(command, tmp_path, **changes) as process, asyncio.timeout(20):
        return await process.ended()


async def printed(tmp_path: Path, lines: int) -> list[str]:
    """What the worker has printed, once it is so many lines."""
    log = tmp_path / "worker-0.log"
    async with asyncio.timeout(20):
        while not log.exists() or log.read_text().count("\n") < lines:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return log.read_text().splitlines()


async def until_gone(*pids: int) -> None:
    """Wait until none of these processes runs."""
    async with asyncio.timeout(20):
        while any(runs(pid) for pid in pids):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
