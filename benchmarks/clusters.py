"""Clusters to measure: each in a temporary directory, on free loopback ports, gone at the end."""

import asyncio
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ripieno.store.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[1]
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 60.0

_READY = re.compile(r"ready\b.*?(127\.0\.0\.1:\d+)|ready")


class ClusterError(RuntimeError):
    """A cluster did not start; its output says why."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that serves.

    Attributes:
        address: Of the control plane.
        roots: Process ids; with all below them they are the cluster.
        data: Its directory, where it has one.
    """

    address: str
    roots: list[int]
    data: Path


def python_worker(handler: str) -> str:
    """The command of a worker made with our SDK, for one of ``benchmarks.tasks``."""
    return f"{sys.executable} -m ripieno.worker benchmarks.tasks:{handler}"


@contextmanager
def up(worker: str, *, slots: int = 2, data: Path | None = None) -> Iterator[Cluster]:
    """``ripieno up`` with the embedded PostgreSQL: fsync on, every process of its own.

    Args:
        worker: Command of a worker.
        slots: How many of them.
        data: Its directory; None takes a temporary one.
    """
    with ExitStack() as stack:
        place = data or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True))
        )
        arguments = ["up", "--data", str(place / "data"), "--listen", "127.0.0.1:0", "--slots", str(slots)]
        process, address = stack.enter_context(ripieno([*arguments, "--worker", worker]))
        yield Cluster(address, [process.pid], place)


@contextmanager
def ripieno(
    arguments: list[str], environment: Mapping[str, str] | None = None, *, changing: str = ""
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """One command of ours as a process, from its ready line to a clean stop.

    Args:
        changing: A constant to give another value first, as ``module:NAME=value``.

    Yields:
        The process, and the address in its ready line (or an empty string).

    Raises:
        ClusterError: it ended, or was not ready in time.
    """
    command = [sys.executable, "-m", "ripieno", *arguments]
    if changing:
        module, _, assignment = changing.partition(":")
        command[1:3] = ["-c", f"import {module} as m; m.{assignment}; from ripieno.cli import main; main()"]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | dict(environment or {}), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, _ready(process, arguments[0])
        finally:
            _stop(process)


def _ready(process: subprocess.Popen[str], name: str) -> str:
    assert process.stdout is not None
    found: queue.Queue[str | None] = queue.Queue()
    # It reads on until the process ends, lest the pipe fill.
    threading.Thread(target=_read, args=(process.stdout, found), daemon=True).start()
    try:
        address = found.get(timeout=READY_WITHIN_S)
    except queue.Empty:
        raise ClusterError(f"ripieno {name} was not ready within {READY_WITHIN_S:.0f} s") from None
    if address is None:
        raise ClusterError(f"ripieno {name} ended with {process.wait()} before it was ready")
    return address


def _read(lines: IO[str], found: "queue.Queue[str | None]") -> None:
    for line in lines:
        if match := _READY.search(line):
            found.put(match[1] or "")
    found.put(None)


def _stop(process: subprocess.Popen[str]) -> None:
    # The second one hurries: what still runs or waits is of no interest any more.
    for number, patience_s in ((signal.SIGTERM, 1.0), (signal.SIGTERM, STOP_WITHIN_S), (signal.SIGKILL, STOP_WITHIN_S)):
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        return


@contextmanager
def postgres(data: Path, overrides: Mapping[str, str] | None = None) -> Iterator[str]:
    """The embedded PostgreSQL as ``ripieno up`` runs it; yields its URL."""
    server = EmbeddedPostgres(data, overrides=overrides)
    with asyncio.Runner() as runner:
        url = runner.run(server.start())
        try:
            yield url
        finally:
            runner.run(server.stop())


@contextmanager
def control(database: str, objects: Path, *, changing: str = "") -> Iterator[tuple[int, str]]:
    """One replica of the control plane; yields its process id and its address."""
    arguments = ["control", "--listen", "127.0.0.1:0", "--objects", str(objects), "--drain", "1"]
    with ripieno(arguments, {"RIPIENO_DATABASE": database}, changing=changing) as (process, address):
        yield process.pid, address


@contextmanager
def agent(address: str, worker: str, *, slots: int = 2, changing: str = "") -> Iterator[int]:
    """One agent with its workers; yields its process id once it is connected."""
    arguments = ["agent", "--control", address, "--slots", str(slots), "--worker", worker, "--drain", "0"]
    with ripieno(arguments, changing=changing) as (process, _):
        yield process.pid
