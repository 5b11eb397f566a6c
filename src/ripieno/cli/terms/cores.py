"""How many cores this process may use: what it is pinned to, and what its container is granted."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The cores this process is pinned to, or fewer where the CPU quota of its control group says so.

    A quota of one and a half cores counts as two: whoever keeps one and a half busy needs two workers.
    """
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(pinned, granted_cores(_CGROUPS, _MEMBERSHIP))))


def granted_cores(cgroups: Path, membership: Path) -> float:
    """The least quota of a process's control groups, in cores; infinity where there is none.

    Args:
        cgroups: Where control groups of version 1 or 2 are mounted (``/sys/fs/cgroup``).
        membership: Says which the process is in (``/proc/self/cgroup``).
    """
    quotas = [_unified(folder) for folder in _folders(cgroups, membership, "")]
    for controllers in ("cpu", "cpu,cpuacct"):
        quotas += [_legacy(folder) for folder in _folders(cgroups / controllers, membership, controllers)]
    return min(quotas, default=math.inf)


def _folders(mounted: Path, membership: Path, controllers: str) -> Iterator[Path]:
    """The folder of a process's group and all above it: each may hold a quota.

    Inside a container the group often is the mount's own top, while the path that is told is the host's.
    """
    yield mounted
    for line in _text(membership).splitlines():
        _, _, rest = line.partition(":")
        named, _, path = rest.partition(":")
        if set(controllers.split(",")) <= set(named.split(",")):
            folder = mounted
            for part in Path(path.lstrip("/")).parts:
                folder /= part
                yield folder


def _unified(folder: Path) -> float:
    """Version 2: ``cpu.max`` holds a quota (or ``max``) and a period, in microseconds."""
    quota, period = [*_text(folder / "cpu.max").split(), "", ""][:2]
    return _ratio(quota, period)


def _legacy(folder: Path) -> float:
    """Version 1: two files; a quota of -1 is none."""
    return _ratio(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float:
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return math.inf
    return int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
