"""How many workers a machine, or the container on it, has room for."""

import math
import os
from pathlib import Path

import pytest

from ripieno.cli.terms.cores import granted_cores, usable_cores


def laid_out(tmp_path: Path, membership: str, files: dict[str, str]) -> float:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "membership").write_text(membership)
    return granted_cores(tmp_path / "cgroup", tmp_path / "membership")


V1 = "cpu,cpuacct"


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b\n", {"a/cpu.max": "max 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/kept/from/us\n", {"cpu.max": "300000 100000"}, 3.0),
        (f"4:{V1}:/a\n", {f"{V1}/a/cpu.cfs_quota_us": "400000", f"{V1}/a/cpu.cfs_period_us": "100000"}, 4.0),
        (f"4:{V1}:/a\n", {f"{V1}/cpu.cfs_quota_us": "-1", f"{V1}/cpu.cfs_period_us": "100000"}, math.inf),
        ("4:cpu:/a\n", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        ("", {}, math.inf),
        ("nonsense\n::\n", {"cpu.max": "nonsense"}, math.inf),
    ],
)
def test_the_least_quota_counts(tmp_path: Path, membership: str, files: dict[str, str], cores: float) -> None:
    assert laid_out(tmp_path, membership, files) == cores


def test_there_is_room_for_one_at_least_and_no_more_than_the_machine_has() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
