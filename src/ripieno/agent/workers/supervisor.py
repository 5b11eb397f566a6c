"""Worker processes: started, watched, ended, each through a warden of its own (see ``warden``).

A worker runs in a session of its own, so that signals to the agent do not reach it. It dies with
its agent, also when the agent is killed, and so does what it has started: on Linux all of it, elsewhere
what has stayed in its group.
"""

from __future__ import annotations

import asyncio
import marshal
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ripieno.agent.workers import warden
from ripieno.agent.workers.environment import worker_environment
from ripieno.domain.texts import reason

#: Between SIGTERM and SIGKILL.
TERMINATE_S = 2.0
#: A warden that has told of its worker's end, or was told to end, is gone within this.
WARDEN_END_S = warden.KILL_LIMIT_S + 1.0
#: How often to look for its end then: it is on its way.
POLL_S = 0.005
#: A file of what a worker prints is put aside at this size; one old file is kept.
LOG_LIMIT_BYTES = 5 * 1024 * 1024
#: Of what a worker printed last, its failure tells so much.
LAST_WORDS_BYTES = 1500


def worker_command(worker: str | None) -> list[str]:
    """The words of a worker's command; ``{address}`` in them is replaced at each start."""
    if worker is None:
        return [sys.executable, "-m", "ripieno", "worker"]
    words = shlex.split(worker)
    if not words:
        raise ValueError("the worker's command is empty")
    return words


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all workers of an agent share.

    Attributes:
        command: The words that start one.
        logs: Directory for what they print, ``worker-SLOT.log`` each; None means the agent's standard error.
        pass_environment: Variables that they get although the agent would keep them back.
        open_files: Their soft and hard limit of open files; None leaves the agent's.
        environment: The agent's own.
    """

    command: Sequence[str]
    logs: Path | None = None
    pass_environment: Sequence[str] = ()
    open_files: tuple[int, int] | None = None
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def order(self, address: str, slot: int) -> bytes:
        """What a warden is told: how to start the worker of ``slot`` that is to serve ``address``."""
        order = marshal.dumps(
            {
                "command": [word.replace("{address}", address) for word in self.command],
                "environment": worker_environment(
                    self.environment, named=self.pass_environment, address=address, slot=slot
                ),
                "open_files": self.open_files,
                "log": str(self.logs / f"worker-{slot}.log") if self.logs is not None else "",
                "log_bytes": LOG_LIMIT_BYTES,
            }
        )
        return len(order).to_bytes(8, "big") + order


class WorkerProcess:
    """One worker, as its warden tells of it. Make it, and use it, on the event loop.

    The warden is started with ``subprocess`` and not by the event loop: uvloop forks where that
    one uses vfork, and a fork disturbs gRPC's threads (and complains about it). Its report comes
    through a pipe, so no convenience of the kernel is needed to learn of an end.
    """

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.address = address
        #: The worker's process id; 0 as long as it is not known.
        self.pid = 0
        self._process = process
        self._orders, self._reports = process.stdin, process.stdout
        self._reason = ""
        self._report = b""
        self._told = asyncio.Event()
        os.set_blocking(self._reports.fileno(), False)
        asyncio.get_running_loop().add_reader(self._reports.fileno(), self._read)

    @classmethod
    def start(cls, workshop: Workshop, address: str, slot: int) -> WorkerProcess:
        """Start a worker that is to serve ``address``.

        Raises:
            OSError: no process can be started (no descriptor, no memory, no process left).
                A command that does not exist is a worker that ends at once.
        """
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", warden.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it ended: so does its report
            process.stdin.write(workshop.order(address, slot))
            process.stdin.flush()
        return cls(process, address)

    async def ended(self) -> str:
        """Wait until it has ended, and all that it started; say how it was."""
        await self._told.wait()
        if self._reason:
            return self._reason
        first, second, printed = (*self._report.split(b"\n", 2), b"", b"")[:3]
        if first.startswith(b"failed "):
            return f"the worker cannot be started: {first[7:].decode(errors='backslashreplace')}"
        if not second.startswith(b"ended "):
            return "the worker process was ended, since the process that minds it was killed"
        return _how(int(second[6:])) + _last_words(printed)

    def kill(self, why: str) -> bool:
        """End it at once; ``why`` is what its attempt is told. Always True."""
        self._reason = why
        self._ask(b"k")
        # A worker may stop its warden: nobody would end it then.
        asyncio.get_running_loop().call_later(WARDEN_END_S, self._kill_warden)
        return True

    def _kill_warden(self) -> None:
        if not self._told.is_set():
            self._process.kill()

    async def stop(self) -> None:
        """Ask it to end, and see to it that it does, with all that it started; also when cancelled meanwhile."""
        stopping = asyncio.ensure_future(self._stop())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await asyncio.wait((stopping,))
            raise

    async def _stop(self) -> None:
        if not self._told.is_set():
            self._ask(b"t")
            with suppress(TimeoutError):
                async with asyncio.timeout(TERMINATE_S):
                    await self._told.wait()
        self._close_orders()
        await self._until_warden_ended()
        self._stop_reading()
        self._reports.close()
        self._remove_socket()

    async def _until_warden_ended(self) -> None:
        deadline = asyncio.get_running_loop().time() + WARDEN_END_S
        while self._process.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                self._process.kill()
            await asyncio.sleep(POLL_S)

    def _remove_socket(self) -> None:
        # A directory in its place, or a disk that takes no changes, is no reason to end anything.
        with suppress(OSError):
            Path(self.address.removeprefix("unix:")).unlink()

    def _ask(self, what: bytes) -> None:
        if not self._orders.closed:
            with suppress(BrokenPipeError):
                os.write(self._orders.fileno(), what)

    def _close_orders(self) -> None:
        """The warden reads this as: end everything."""
        with suppress(BrokenPipeError):
            self._orders.close()

    def _read(self) -> None:
        """Take in the report; its end is the end."""
        try:
            data = os.read(self._reports.fileno(), 65_536)
        except BlockingIOError:
            return
        self._report += data
        if not self.pid and self._report.startswith(b"started ") and b"\n" in self._report:
            self.pid = int(self._report.split(b"\n", 1)[0][8:])
        if not data:
            self._stop_reading()
            self._told.set()
            if b"\nended " not in self._report and self.pid:
                self._kill_group()

    def _kill_group(self) -> None:
        """The warden was killed. The kernel kills the worker then; this is for its children."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _stop_reading(self) -> None:
        if not self._reports.closed:
            asyncio.get_running_loop().remove_reader(self._reports.fileno())


def _how(code: int) -> str:
    if code >= 0:
        return f"the worker process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the worker process was ended by {name}"


def _last_words(printed: bytes) -> str:
    text = printed.decode(errors="backslashreplace").strip()
    return f"; it printed last:\n{reason(text, LAST_WORDS_BYTES)}" if text else ""
