"""The fixtures of the pytest plugin, in a project like a user's: that of the page on testing."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "testing.md"
_FILE = re.compile(r"^```\w+\n# (?P<name>\S+\.\w+)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)

#: A module that workers cannot import, as pytest's own import mode puts it nowhere in the search path.
ELSEWHERE = """
import pytest

class MineError(Exception): ...

def helper(number):
    if number < 0:
        raise MineError("negative")
    return number + 1

def test_code_of_the_test_itself(cluster):
    assert cluster.submit(helper, 1).result(60) == 2
    with pytest.raises(MineError, match="negative"):
        cluster.submit(helper, -1, max_retries=0).result(60)
"""


def test_the_examples_of_the_page_pass(tmp_path: Path) -> None:
    files = {found["name"]: found["text"] for found in _FILE.finditer(PAGE.read_text())}
    assert len(files) == 5 and PAGE.read_text().count("```") == 2 * len(files)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "test_elsewhere.py").write_text(ELSEWHERE)
    # Plugins of this project's own tests are left out; ours is found by its entry point.
    others = [argument for name in ("asyncio", "randomly", "xdist", "timeout") for argument in ("-p", f"no:{name}")]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "--import-mode", "importlib", "-o", "pythonpath=.", *others],
        cwd=tmp_path, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert "10 passed" in ended.stdout
