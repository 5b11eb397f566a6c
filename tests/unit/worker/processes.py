"""Worker processes to be driven from outside."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent


@dataclass(frozen=True)
class WorkerProcess:
    address: str
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid


@contextlib.contextmanager
def worker_process(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
    first_lines: Sequence[str] = (),
    stderr: int | None = None,
) -> Iterator[WorkerProcess]:
    """A worker that says it is ready, after ``first_lines``; killed at the end if it still runs."""
    with tempfile.TemporaryDirectory(prefix="rw-") as folder:
        address = f"unix:{folder}/w"
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "ripieno.worker", *arguments],
            env={**os.environ, "RIPIENO_WORKER_ADDRESS": address, **(environment or {})},
            cwd=HERE,
            pass_fds=pass_fds,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                assert [process.stdout.readline() for _ in first_lines] == list(first_lines)
                assert process.stdout.readline() == f"ripieno worker ready on {address}\n"
                yield WorkerProcess(address, process)
            finally:
                process.kill()


async def until_closed(worker: WorkerProcess, folder: str) -> None:
    """Wait until a worker has none of the files below a folder open; its loop closes them soon after their attempt."""

    def opened() -> list[str]:
        return [file.path for file in psutil.Process(worker.pid).open_files() if file.path.startswith(folder)]

    async with asyncio.timeout(10):
        while opened():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
