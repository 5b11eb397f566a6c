"""Finds and ends servers whose owner has ended.

Two mechanisms are used, both of which survive ``kill -9`` of any process:

* **The lock.** The server inherits from its owner the data directory, opened and locked,
  and so do the processes it forks. The kernel keeps the lock until the last of them has
  ended. A free lock proves that no server runs on the directory; a taken lock proves that the process
  named in ``postmaster.pid`` is the server, and not another process that has got the same number.
* **The sentinel.** A shell waits on a pipe whose other end the owner holds. When the owner
  ends, however it ends, the shell wakes and asks the server for a fast shutdown.
"""

import asyncio
import fcntl
import os
import signal
import subprocess
from pathlib import Path

#: The interval at which a condition is polled that nothing signals.
POLL_S = 0.01

SENTINEL = 'read -r _; kill -INT "$1"'


def try_lock(directory: Path) -> int | None:
    """Open and lock ``directory``; return the descriptor, or None if another process holds the lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


async def lock_within(directory: Path, seconds: float) -> int | None:
    """Lock ``directory`` as ``try_lock`` does, waiting for at most ``seconds``."""
    deadline = asyncio.get_running_loop().time() + seconds
    while (descriptor := try_lock(directory)) is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)
    return descriptor


def recorded_pid(data: Path) -> int | None:
    """Return the process id in the server's file ``postmaster.pid``; None if there is none."""
    lines = _postmaster_lines(data)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def recorded_socket_directory(data: Path) -> Path | None:
    """Return the directory in which the server of ``postmaster.pid`` has, or had, its socket."""
    lines = _postmaster_lines(data)
    return Path(lines[4]) if len(lines) > 4 and lines[4] else None


def accepts_connections(data: Path, pid: int) -> bool:
    """Whether the server with process id ``pid`` says in ``postmaster.pid`` that it is ready."""
    lines = _postmaster_lines(data)
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _postmaster_lines(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process; no-op if the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


class Sentinel:
    """Asks a server for a fast shutdown when the process that made this object ends."""

    def __init__(self, pid: int) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", SENTINEL, "ripieno-sentinel", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End the sentinel without a shutdown of the server; call this once the server has ended."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
