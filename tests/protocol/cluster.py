"""The product as real processes: commands, their ready lines, signals, and what they use of the machine."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO

import psutil

from protocol.deadlines import eventually

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 45.0
_TOLD_CHARACTERS = 3_000
_TESTS = Path(__file__).resolve().parent.parent
_ADDRESS = re.compile(r"(127\.0\.0\.1:[1-9][0-9]*)")


class Process:
    """One command of the product, from its start to its end.

    Attributes:
        address: Where it serves, out of its ready line; empty for a process that serves nothing.
        log_directory: Where it writes its logs, if it does.
    """

    def __init__(self, arguments: Sequence[str], directory: Path, environment: dict[str, str] | None = None) -> None:
        self.address = ""
        self._killed = False
        self._name = arguments[0]
        self._logs = directory
        self.log_directory = directory
        self._stdout = self._open_log("out")
        self._stderr = self._open_log("err")
        # Worker commands of this suite are modules of this package.
        path = os.pathsep.join(filter(None, [str(_TESTS), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ripieno", *arguments],
            stdout=self._stdout,
            stderr=self._stderr,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
            start_new_session=True,
        )
        # Ends it when this process is gone without having stopped it: its end of the pipe closes then.
        self._tie = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -TERM "$1"', "tie", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _open_log(self, kind: str) -> IO[bytes]:
        descriptor, _ = tempfile.mkstemp(prefix=f"{self._name}.", suffix=f".{kind}", dir=self._logs)
        return os.fdopen(descriptor, "r+b")

    @property
    def pid(self) -> int:
        return self._process.pid

    def tree(self) -> list[psutil.Process]:
        """The process and everything below it."""
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]

    def services(self) -> set[int]:
        """The ids of the processes that it started itself and keeps alive."""
        return {child.pid for child in psutil.Process(self.pid).children()}

    async def ready(self) -> str:
        """Wait for the ready line; return the address in it (or an empty string).

        Raises:
            AssertionError: the process ended, or printed no such line in time.
        """
        line = await eventually(self._ready_line, f"ripieno {self._name} is ready", within_s=READY_WITHIN_S)
        match = _ADDRESS.search(line)
        self.address = match[1] if match else ""
        return self.address

    def _ready_line(self) -> str:
        status = self._process.poll()
        lines = [line for line in self._read(self._stdout).splitlines() if "ready" in line]
        if status is not None and not lines:
            raise AssertionError(f"ripieno {self._name} ended with {status} before it was ready:\n{self.story()}")
        return lines[0] if lines else ""

    def story(self) -> str:
        """What the process printed and logged, the last characters of each."""
        printed = [("standard output", self._read(self._stdout)), ("standard error", self._read(self._stderr))]
        logged = [(log.name, log.read_text(errors="replace")) for log in sorted(self.log_directory.glob("*.log"))]
        return "\n".join(f"---- {name}\n{text[-_TOLD_CHARACTERS:]}" for name, text in printed + logged if text)

    @staticmethod
    def _read(log: IO[bytes]) -> str:
        if log.closed:
            return ""  # after the end of the cluster
        size = os.fstat(log.fileno()).st_size
        return os.pread(log.fileno(), size, 0).decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def exit_status(self) -> int | None:
        return self._process.poll()

    async def stop(self) -> None:
        """Ask it to drain; require that it ends with status 0 and leaves no process (one that was killed is let be)."""
        if self._killed:
            return
        family = self.tree()[1:] if self.exit_status is None else []
        try:
            if self.exit_status is None:
                self.signal(signal.SIGTERM)
                await eventually(
                    lambda: self.exit_status is not None, f"ripieno {self._name} ends", within_s=STOP_WITHIN_S
                )
            assert self.exit_status == 0, f"ripieno {self._name} ended with {self.exit_status}"
            await eventually(
                lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family),
                f"no process below ripieno {self._name} is left",
            )
        except BaseException:
            self.kill(family)
            raise

    def kill(self, family: Sequence[psutil.Process] = ()) -> None:
        """End it and the given others at once, asking nobody; nothing happens to those that ended."""
        self._killed = True
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of what belongs to it: its logs, and what ties it to this process."""
        self._tie.kill()
        self._tie.communicate()
        self._stdout.close()
        self._stderr.close()


@contextlib.asynccontextmanager
async def running(
    *arguments: str, environment: dict[str, str] | None = None, logs: Path | None = None
) -> AsyncIterator[Process]:
    """Run one command until the block ends; it must be ready first and end with status 0 after.

    Args:
        arguments: The command and its flags.
        environment: Added to this process's own.
        logs: Where the command writes its logs.
    """
    directory = Path(tempfile.mkdtemp(prefix="rp-out-"))
    process = Process(arguments, directory, environment)
    process.log_directory = logs or directory
    try:
        await process.ready()
        yield process
        await process.stop()
    except BaseException as error:
        error.add_note(f"ripieno {arguments[0]} printed:\n{process.story()}")
        process.kill(process.tree() if process.exit_status is None else ())
        raise
    finally:
        process.close()
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def cluster(
    *, attach: Sequence[str] = (), worker: str | None = None, slots: int | None = None, data: Path | None = None
) -> AsyncIterator[Process]:
    """Run ``ripieno up``, with workers that exist already or with a command for them.

    Yields:
        The process, its ``address`` known. Its data directory is removed at the end unless ``data`` names one.
    """
    directory = data or Path(tempfile.mkdtemp(prefix="rp-"))
    arguments = ["up", "--data", str(directory / "data"), "--listen", "127.0.0.1:0"]
    for address in attach:
        arguments += ["--attach", address]
    if worker is not None:
        arguments += ["--worker", worker]
    if slots is not None:
        arguments += ["--slots", str(slots)]
    try:
        async with running(*arguments, logs=directory / "data" / "logs") as process:
            assert process.address, "the ready line of `up` names no address"
            yield process
    finally:
        if data is None:
            shutil.rmtree(directory, ignore_errors=True)
