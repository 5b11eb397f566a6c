"""The examples of functions as tasks: each program runs as it is, on one cluster for all of them."""

import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ripieno.functions.calling.private import PrivateCluster

EXAMPLES = Path(__file__).parents[2] / "examples"
FUNCTIONS = EXAMPLES / "functions"

Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a program on the cluster; returns the lines that it printed."""
    private = PrivateCluster(2)

    def run_it(name: str, *arguments: str | Path) -> list[str]:
        done = subprocess.run(
            [sys.executable, str(FUNCTIONS / name), *map(str, arguments)],
            env=os.environ | {"RIPIENO_ADDRESS": private.address},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    yield run_it
    private.close()


def test_hello(run: Run) -> None:
    assert run("hello.py", "Ada", "Grace") == ["Hello, Ada!", "Hello, Grace!"]


@pytest.mark.parametrize("flags", [[], ["--send"]])
def test_words(run: Run, tmp_path: Path, flags: list[str]) -> None:
    texts = ["one two\ntwo", "", "größe two. TWO!", "ash " * 1000]
    files = [tmp_path / f"{number}.txt" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    expected = Counter({"ash": 1000, "two": 4, "größe": 1, "one": 1})
    lines = [f"{expected.total()} words, 4 different", *(f"{times:6d} {word}" for word, times in expected.items())]
    assert run("words.py", *flags, *files) == lines


def test_picture(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "spheres.png"
    assert run("picture.py", file, "--width", "160") == [f"{file}: 160 x 90, 6 tasks"]
    start, length = (file.read_bytes().index(b"IDAT") + offset for offset in (4, -4))
    size = int.from_bytes(file.read_bytes()[length : length + 4])
    lines = zlib.decompress(file.read_bytes()[start : start + size])
    assert len(lines) == 90 * (1 + 3 * 160)
    pixel = dict(zip("rgb", lines[45 * 481 + 1 + 3 * 53 :][:3], strict=True))
    assert pixel["r"] > pixel["g"] > 0, "the red sphere is left of the middle"


def test_graph(run: Run) -> None:
    [line] = run("graph.py", "1e-6")
    found = re.fullmatch(r"integral (0\.\d+), exact (0\.\d+), (\d+) intervals", line)
    assert found is not None, line
    assert found[1] == found[2]
    assert int(found[3]) > 20, "the graph grew"


def test_portfolio(run: Run) -> None:
    first, second = run("portfolio.py")
    assert first == "36 positions, 10,000 scenarios, 20 tasks"
    assert second == "mean -14, value at risk (99 %) 4,054, shortfall 4,740"


def test_grid_search(run: Run) -> None:
    *told, first, _, _ = run("grid_search.py")
    assert first == "0.957  {'C': 10.0, 'gamma': 0.01}"
    assert told[-1] == "so far the best: 0.957 with {'C': 10.0, 'gamma': 0.01}"


def test_each_example_is_short() -> None:
    files = [*FUNCTIONS.glob("*.py"), *(EXAMPLES / "node").glob("*.js"), *(EXAMPLES / "hello").glob("*.py")]
    assert {str(file): count for file in files if (count := len(file.read_text().splitlines())) > 100} == {}
