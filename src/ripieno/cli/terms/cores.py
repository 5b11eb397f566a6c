"""The number of cores this process may use, by its affinity and by its container's CPU quota."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return the number of cores this process is pinned to, or fewer if its control group's CPU quota is lower.

    A quota of one and a half cores counts as two: two workers are needed to keep one and a half cores busy.
    """
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(pinned, granted_cores(_CGROUPS, _MEMBERSHIP))))


def granted_cores(cgroups: Path, membership: Path) -> float:
    """Return the least CPU quota of a process's control groups, in cores; infinity where there is none.

    Args:
        cgroups: Where control groups of version 1 or 2 are mounted (``/sys/fs/cgroup``).
        membership: The file that lists the process's groups (``/proc/self/cgroup``).
    """
    quotas = [_unified(folder) for folder in _folders(cgroups, membership, "")]
    for controllers in ("cpu", "cpu,cpuacct"):
        quotas += [_legacy(folder) for folder in _folders(cgroups / controllers, membership, controllers)]
    return min(quotas, default=math.inf)


def _folders(mounted: Path, membership: Path, controllers: str) -> Iterator[Path]:
    """Yield the folder of a process's group and all above it: each may hold a quota.

    Inside a container the group often is the top of the mount, while `membership` names the host's path.
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
    """Return the quota of a version 2 group: ``cpu.max`` holds it (or ``max``) and its period, in microseconds."""
    quota, period = [*_text(folder / "cpu.max").split(), "", ""][:2]
    return _ratio(quota, period)


def _legacy(folder: Path) -> float:
    """Return the quota of a version 1 group: it and its period are in two files; a quota of -1 is none."""
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
