"""A cluster of its own for the demonstration: started, waited for, stopped."""

import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
WORKER = "examples.portfolio.worker:handle"

READY_TIMEOUT_S = 120.0  # a first start creates a database, perhaps on a slow disk
STOP_TIMEOUT_S = 60.0
_ADDRESS = re.compile(r"\S+:\d+")


class ClusterError(RuntimeError):
    """The cluster did not start or did not stop; its log says why."""


@contextmanager
def cluster(data: Path, log: Path) -> Iterator[str]:
    """A cluster with one worker a core that keeps its data in ``data``.

    Yields:
        Its address.

    Raises:
        ClusterError: it ended or was not ready in time, or it did not drain and exit with 0
            after SIGTERM.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            _command(data), cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
        _addresses(process) as addresses,
    ):
        try:
            yield _first(addresses, log)
        finally:
            code = _stop(process)
    if code:
        raise ClusterError(f"the cluster ended with exit code {code}; see {log}")


def _command(data: Path) -> list[str]:
    worker = f"{shlex.quote(sys.executable)} -m ripieno worker {WORKER}"
    return [sys.executable, "-m", "ripieno", "up", "--data", str(data), "--listen", "127.0.0.1:0", "--worker", worker]


def _environment() -> dict[str, str]:
    # There is a worker for each core already: a library that starts threads of its own slows all of them.
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@contextmanager
def _addresses(process: subprocess.Popen[str]) -> Iterator[queue.Queue[str | None]]:
    """Addresses that the process says it is ready at; None once it says no more.

    A thread reads on until the process ends, lest the pipe fill and the cluster stall.
    """
    assert process.stdout is not None
    found: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, found))
    reader.start()
    try:
        yield found
    finally:
        reader.join()


def _read(lines: IO[str], found: queue.Queue[str | None]) -> None:
    for line in lines:
        address = _ADDRESS.search(line)
        if "ready" in line and address:
            found.put(address[0])
    found.put(None)


def _first(addresses: queue.Queue[str | None], log: Path) -> str:
    try:
        address = addresses.get(timeout=READY_TIMEOUT_S)
    except queue.Empty:
        raise ClusterError(f"the cluster was not ready within {READY_TIMEOUT_S:g} s; see {log}") from None
    if address is None:
        raise ClusterError(f"the cluster ended before it was ready; see {log}")
    return address


def _stop(process: subprocess.Popen[str]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
