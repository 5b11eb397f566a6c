"""``make`` with a Python that is too old says so, and how to name another one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old-python"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 1); exec(sys.argv[2])" "$@"\n'
    )
    old.chmod(0o755)
    ended = subprocess.run(
        ["make", f"PYTHON={old}", ".venv/.ready"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    )  # fmt: skip
    assert ended.returncode != 0
    assert "is Python 3.9; 3.11 or newer is needed: make PYTHON=python3.12" in ended.stdout + ended.stderr
    assert not (tmp_path / ".venv").exists()
