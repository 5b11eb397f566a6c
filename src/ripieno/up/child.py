"""Starting, watching and ending one ``ripieno`` process of a cluster."""

import asyncio
import codecs
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

from ripieno.up.directory import DataDirectory, record_holder
from ripieno.up.errors import ServiceFailedError
from ripieno.up.tie import AGENT_VARIABLE, BEGIN, PREDECESSOR_VARIABLE, TIE_VARIABLE

#: Seconds after which a process that was told to hurry is killed.
HURRIED_END_S = 5.0
#: How long to wait for the rest of the standard error of a process that has ended, in seconds.
LAST_WORDS_S = 0.5

READ_BYTES = 64 * 1024

log = structlog.get_logger(__name__)


class Child:
    """A ``ripieno`` command as a process of its own, tied to us by a pair of sockets.

    Over the tie we say "begin" and the process says "ready"; when either end closes, the process
    there is gone (UP-3). The process has its own session and gets no signal from the terminal, so
    that we decide the order of the stop. Its standard output goes to a file beside its log: our own
    standard output carries the ready line and nothing else. Its standard error (warnings, the traceback
    of a crash) is repeated at once on ours, which never waits for a reader.

    Args:
        directory: The data directory, with the process's log and lock.
        arguments: Arguments of the command line, for instance ``["control", "--listen", ...]``.
        environment: Variables that the process gets beside our own.
        identified: Whether the process is told who it is and whom it replaces (see ``tie``).
        scratch: A directory that is emptied before each start; None if the process needs none.
        drain_limit_s: Seconds that the process may drain after a stop before it is told to hurry.
    """

    def __init__(
        self,
        directory: DataDirectory,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        identified: bool = False,
        scratch: Path | None,
        drain_limit_s: float,
    ) -> None:
        self.name = arguments[0]
        self._directory = directory
        self._arguments = [*arguments, "--log-file", str(directory.log(self.name))]
        self._environment = environment
        self._identified = identified
        self._scratch = scratch
        self._drain_limit_s = drain_limit_s
        self._process: asyncio.subprocess.Process | None = None
        self._tie: socket.socket | None = None
        self._saying: asyncio.Task[None] | None = None

    async def launch(self) -> None:
        """Start the interpreter, which loads its modules and then waits for ``start``.

        Raises:
            DirectoryHeldError: if the same process of an earlier ``up`` does not end.
            ServiceFailedError: if the machine refuses a process, a descriptor or a file.
            UpError: if a directory or the lock's file cannot be made or used.
        """
        try:
            await self._launch()
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise ServiceFailedError(f"cannot start {self.name}: {error.strerror or error}{where}") from error

    async def _launch(self) -> None:
        # The directories of logs and locks may have been removed since the start of `up`.
        self._directory.make_places()
        with ExitStack() as given:
            lock = await self._directory.lock_of(self.name)
            given.callback(os.close, lock)
            self._empty_scratch()
            printed = given.enter_context(self._directory.log(f"{self.name}.stdout").open("ab"))
            self._tie, theirs = socket.socketpair()
            given.enter_context(theirs)
            self._tie.setblocking(False)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "ripieno", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=printed,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(), lock),
                env=os.environ | self._environment | self._identity() | {TIE_VARIABLE: str(theirs.fileno())},
                start_new_session=True,
            )
            record_holder(lock, self._process.pid)
            assert self._process.stderr is not None
            self._saying = asyncio.create_task(_say_on(self._process.stderr))

    async def start(self) -> None:
        """Let the process begin, launching it first if it is not running; return when it is ready.

        Raises:
            ServiceFailedError: if the process ended before it was ready.
        """
        if self._process is None:
            await self.launch()
        process, tie = self._process, self._tie
        assert process is not None and tie is not None
        try:
            await asyncio.get_running_loop().sock_sendall(tie, BEGIN)
            ready = await asyncio.get_running_loop().sock_recv(tie, 64)
        except ConnectionError:
            ready = b""
        if not ready:
            raise ServiceFailedError(
                f"{self.name} {await self.wait()} before it was ready; its log is {self._directory.log(self.name)}"
            )
        log.info("process_started", process=self.name, pid=process.pid)

    async def wait(self) -> str:
        """Wait until the process ends, for whatever cause; return in words how it ended."""
        assert self._process is not None
        code = await self._process.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ask the process to drain and wait until it ends; ``hurry`` makes it give up what still runs."""
        for limit_s, hurried in ((self._drain_limit_s, hurry), (HURRIED_END_S, asyncio.Event())):
            self._signal(signal.SIGTERM)
            if await self._ended_within(limit_s, hurried):
                break
        await self.discard()

    async def discard(self) -> None:
        """Kill the process if it still runs, and release its resources, so that it can be started again."""
        if self._process is not None and self._process.returncode is None:
            log.error("process_killed", process=self.name, pid=self._process.pid)
            self._signal(signal.SIGKILL)
            await self._process.wait()
        if self._tie is not None:
            self._tie.close()
        if self._saying is not None:
            # A process that this one started may still hold the other end, so the wait has a limit.
            await asyncio.wait((self._saying,), timeout=LAST_WORDS_S)
            self._saying.cancel()
        self._process = self._tie = self._saying = None

    def _identity(self) -> dict[str, str]:
        """Return the variables that name a fresh id and the predecessor's.

        Call it with the process's lock held, which proves that the predecessor has ended.
        """
        if not self._identified:
            return {}
        mine = os.urandom(16).hex()
        return {AGENT_VARIABLE: mine, PREDECESSOR_VARIABLE: self._directory.exchange_identity(self.name, mine)}

    def _empty_scratch(self) -> None:
        """Empty the scratch directory of what a killed predecessor left; call it with the process's lock held."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir(mode=0o700, exist_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _ended_within(self, limit_s: float, hurry: asyncio.Event) -> bool:
        if self._process is None or self._process.returncode is not None:
            return True
        ended, hurried = asyncio.ensure_future(self._process.wait()), asyncio.ensure_future(hurry.wait())
        await asyncio.wait((ended, hurried), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ended, hurried):
            waiting.cancel()
        return self._process.returncode is not None


async def _say_on(words: asyncio.StreamReader) -> None:
    """Repeat a process's standard error on our own, which does not wait for its reader."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    while said := await words.read(READ_BYTES):
        sys.stderr.write(decoder.decode(said))
        sys.stderr.flush()
