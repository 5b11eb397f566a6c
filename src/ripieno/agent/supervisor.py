"""Worker processes: started, watched, ended.

Each runs in a session of its own, so that signals to the agent do not reach it and a kill
reaches all of its children that stayed in the group. A worker dies with its agent, also
when the agent is killed: see ``tether``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ripieno.agent import tether
from ripieno.config import SPAWNED_VARIABLE, WORKER_ADDRESS_VARIABLE

#: Between SIGTERM and SIGKILL.
TERMINATE_S = 2.0
#: How often to look for the end of a process where the kernel does not tell.
POLL_S = 0.05
#: A unix socket's path may have 104 bytes on macOS and 108 on Linux.
SOCKET_PATH_BYTES = 90

_log = logging.getLogger(__name__)


def worker_command(worker: str | None) -> list[str]:
    """The words of a worker's command; ``{address}`` in them is replaced at each start."""
    if worker is None:
        return [sys.executable, "-m", "ripieno", "worker"]
    words = shlex.split(worker)
    if not words:
        raise ValueError("the worker's command is empty")
    return words


class SocketDirectory:
    """Where workers' sockets lie: in scratch if the path is short enough."""

    def __init__(self, scratch: Path) -> None:
        longest = os.fsencode(scratch.absolute() / "worker-0000-000000.sock")
        self._temporary = len(longest) > SOCKET_PATH_BYTES
        self._path = Path(tempfile.mkdtemp(prefix="ripieno-")) if self._temporary else scratch.absolute()

    def address(self, slot: int, generation: int) -> str:
        """A fresh address: no process listened there before."""
        path = self._path / f"worker-{slot}-{generation}.sock"
        path.unlink(missing_ok=True)
        return f"unix:{path}"

    def remove(self) -> None:
        """Remove the directory if it is a temporary one."""
        if self._temporary:
            shutil.rmtree(self._path, ignore_errors=True)


class WorkerProcess:
    """A worker's process and its group.

    Started with ``subprocess`` and not by the event loop: uvloop forks where that one
    uses vfork, and a fork disturbs gRPC's threads (and complains about it).
    """

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.address = address
        self._reason = ""
        self._process = process

    @classmethod
    def start(cls, command: Sequence[str], address: str) -> WorkerProcess:
        """Start a worker that is to serve ``address``; call from the thread that lives as long as the agent.

        Raises:
            OSError: no process can be started. (A command that does not exist is one that ends at once.)
        """
        words = [word.replace("{address}", address) for word in command]
        linux = sys.platform.startswith("linux")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *words],
            # The pipe is what ties the worker where the kernel does not (see tether).
            stdin=subprocess.DEVNULL if linux else subprocess.PIPE,
            # The agent's standard output belongs to whoever started the agent.
            stdout=2,
            env={**os.environ, WORKER_ADDRESS_VARIABLE: address, SPAWNED_VARIABLE: "1"},
            start_new_session=True,
        )
        return cls(process, address)

    async def ended(self) -> str:
        """Wait for its end, and say how it was."""
        code = await self._wait()
        self._signal(signal.SIGKILL)  # what it left behind in its group
        if self._reason:
            return self._reason
        if code < 0:
            return f"the worker process was ended by {signal.Signals(-code).name}"
        return f"the worker process ended with exit code {code}"

    def kill(self, reason: str) -> bool:
        """End it at once; ``reason`` is what its attempt is told. Always True."""
        self._reason = reason
        self._signal(signal.SIGKILL)
        return True

    async def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(TERMINATE_S):
                    await self._wait()
        self._signal(signal.SIGKILL)
        await self._wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._remove_socket()

    async def _wait(self) -> int:
        """Wait for the end of the process; its exit code."""
        if self._process.poll() is None and hasattr(os, "pidfd_open"):
            await _readable(os.pidfd_open(self._process.pid))
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(POLL_S)
        return code

    def _remove_socket(self) -> None:
        Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


async def _readable(descriptor: int) -> None:
    """Wait until a descriptor is readable, and close it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
