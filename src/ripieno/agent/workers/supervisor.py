"""Starts, watches and ends worker processes, each through a warden of its own (see ``warden``).

A worker runs in a session of its own, so that signals to the agent do not reach it. It ends with
its agent, also when the agent is killed, and so do the processes it has started: on Linux all of them,
elsewhere those that have stayed in its group.
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
from ripieno.domain.output import OUTPUT_LIMIT_BYTES
from ripieno.domain.texts import reason
from ripieno.printed import Printed

#: Seconds between SIGTERM and SIGKILL.
TERMINATE_S = 2.0
#: How long a warden may take to end once it has reported its worker's end, or was told to end.
WARDEN_END_S = warden.KILL_LIMIT_S + 1.0
#: Seconds between two checks for a warden's end, which is near then.
POLL_S = 0.005
#: Size at which a worker's log file is put aside; one old file is kept.
LOG_LIMIT_BYTES = 5 * 1024 * 1024
#: Most bytes of a worker's last output in the text of its failure.
LAST_WORDS_BYTES = 1500


def worker_command(worker: str | None) -> list[str]:
    """Split a worker's command into words; None is this project's worker. See ``Workshop.command``.

    Raises:
        ValueError: if the command is empty.
    """
    if worker is None:
        return [sys.executable, "-m", "ripieno", "worker"]
    words = shlex.split(worker)
    if not words:
        raise ValueError("the worker's command is empty")
    return words


@dataclass(frozen=True, slots=True)
class Workshop:
    """The settings that all workers of an agent share.

    Attributes:
        command: The words of the command that starts a worker; ``{address}`` in them is replaced at each start.
        logs: Directory for workers' output, ``worker-SLOT.log`` each; None means the agent's standard error.
        pass_environment: Variables that workers get although the agent would keep them back.
        open_files: Workers' soft and hard limit of open files; None leaves the agent's.
        output_bytes: How much of the end of what an attempt prints is kept of each stream; 0 for nothing.
        environment: The agent's own environment.
    """

    command: Sequence[str]
    logs: Path | None = None
    pass_environment: Sequence[str] = ()
    open_files: tuple[int, int] | None = None
    output_bytes: int = OUTPUT_LIMIT_BYTES
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def order(self, address: str, slot: int) -> bytes:
        """Encode the order for a warden: how to start the worker of ``slot`` that is to serve ``address``."""
        order = marshal.dumps(
            {
                "command": [word.replace("{address}", address) for word in self.command],
                "environment": worker_environment(
                    self.environment, named=self.pass_environment, address=address, slot=slot
                ),
                "open_files": self.open_files,
                "output_bytes": self.output_bytes,
                "log": str(self.logs / f"worker-{slot}.log") if self.logs is not None else "",
                "log_bytes": LOG_LIMIT_BYTES,
            }
        )
        return len(order).to_bytes(8, "big") + order


class WorkerProcess:
    """One worker process, started and ended through its warden. Create and use it on the event loop.

    The warden is started with ``subprocess`` and not by the event loop: uvloop uses fork where
    ``subprocess`` uses vfork, and a fork disturbs gRPC's threads, which log complaints. The warden reports
    through a pipe, so no special call of the kernel is needed to learn of a worker's end.
    """

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.address = address
        #: The worker's process id; 0 until it is known.
        self.pid = 0
        #: What the worker prints; None until it has started, and where that is not kept.
        self.printed: Printed | None = None
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
            OSError: if no process can be started (no descriptor, no memory, no process left).
                A command that does not exist counts as a worker that ends at once.
        """
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", warden.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # a warden that has ended also ends its report, which is read later
            process.stdin.write(workshop.order(address, slot))
            process.stdin.flush()
        return cls(process, address)

    async def ended(self) -> str:
        """Wait until the worker and all processes it started have ended, and return how it ended as text.

        The text has the last of what it printed, which may be of several attempts: see ``how_ended``.
        """
        await self._told.wait()
        printed = (*self._report.split(b"\n", 2), b"", b"")[2]
        return self.how_ended + ("" if self._reason else last_words(printed))

    @property
    def how_ended(self) -> str:
        """How the worker ended, without what it printed; empty until that is known."""
        if self._reason or not self._told.is_set():
            return self._reason
        first, second, _ = (*self._report.split(b"\n", 2), b"", b"")[:3]
        if first.startswith(b"failed "):
            return f"the worker cannot be started: {first[7:].decode(errors='backslashreplace')}"
        if not second.startswith(b"ended "):
            return "the worker process was ended, since the process that minds it was killed"
        return _how(int(second[6:]))

    def kill(self, why: str) -> bool:
        """Kill the worker; ``ended`` then returns ``why``, the reason its attempt fails with. Always returns True."""
        self._reason = why
        self._ask(b"k")
        # A worker may have stopped its warden with a signal, and then only the agent can end the warden.
        asyncio.get_running_loop().call_later(WARDEN_END_S, self._kill_warden)
        return True

    def _kill_warden(self) -> None:
        if not self._told.is_set():
            self._process.kill()

    async def stop(self) -> None:
        """End the worker and all processes it started: SIGTERM, then SIGKILL. Finishes even if cancelled."""
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
        if self.printed is not None:
            self.printed.close()
        self._remove_socket()

    async def _until_warden_ended(self) -> None:
        deadline = asyncio.get_running_loop().time() + WARDEN_END_S
        while self._process.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                self._process.kill()
            await asyncio.sleep(POLL_S)

    def _remove_socket(self) -> None:
        # A directory in the socket's place, or a read-only disk, must not end the keeper.
        with suppress(OSError):
            Path(self.address.removeprefix("unix:")).unlink()

    def _ask(self, what: bytes) -> None:
        if not self._orders.closed:
            with suppress(BrokenPipeError):
                os.write(self._orders.fileno(), what)

    def _close_orders(self) -> None:
        """Close the warden's standard input, on which it ends the worker and all its processes."""
        with suppress(BrokenPipeError):
            self._orders.close()

    def _read(self) -> None:
        """Read the warden's report; at its end the worker counts as ended."""
        try:
            data = os.read(self._reports.fileno(), 65_536)
        except BlockingIOError:
            return
        self._report += data
        if not self.pid and self._report.startswith(b"started ") and b"\n" in self._report:
            pid, _, where = self._report.split(b"\n", 1)[0][8:].partition(b" ")
            self.pid, self.printed = int(pid), Printed.named(where.decode())
        if not data:
            self._stop_reading()
            self._told.set()
            if b"\nended " not in self._report and self.pid:
                self._kill_group()

    def _kill_group(self) -> None:
        """Kill the worker's group after its warden was killed. The kernel kills the worker, but not its children."""
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


def last_words(printed: bytes) -> str:
    """Return the end of what was printed as the end of a sentence; nothing for nothing."""
    text = printed.decode(errors="backslashreplace").strip()
    return f"; it printed last:\n{reason(text, LAST_WORDS_BYTES)}" if text else ""
