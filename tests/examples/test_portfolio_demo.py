"""The demonstration from outside: its own process, a cluster of its own, a small book."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from examples.portfolio.book import Contract, read_book, write_book
from examples.portfolio.cluster import ROOT, ClusterError, cluster


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.portfolio.demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def small_book(portfolio: Path) -> list[Contract]:
    """Two large contracts and thirty others, with few paths."""
    contracts = read_book(portfolio / "book.csv")
    large = [replace(contract, paths=60_000) for contract in contracts[:2]]
    return large + [replace(contract, paths=10_000) for contract in contracts[100:130]]


def test_a_book_is_priced_checked_and_drawn_on_a_cluster_of_its_own(tmp_path: Path, small_book: list[Contract]) -> None:
    write_book(tmp_path / "small.csv", small_book)
    done = run_demo("--book", str(tmp_path / "small.csv"), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    # market, report, 4 groups; and for each large contract itself, 2 slices, 1 merge.
    assert "32 contracts in 14 tasks" in done.stdout
    assert "Check passed" in done.stdout
    assert "Cluster stopped" in done.stdout
    assert (tmp_path / "out" / "pnl.png").stat().st_size > 10_000


def test_a_contract_that_cannot_be_valued_is_told_by_name(tmp_path: Path, small_book: list[Contract]) -> None:
    write_book(tmp_path / "bad.csv", [*small_book[2:10], replace(small_book[10], id="E9999", underlying="YEW")])
    done = run_demo("--book", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "E9999" in done.stdout
    assert "YEW" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_file_that_is_no_directory_for_data_is_told_by_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(ClusterError, match="ended before it was ready"), cluster(tmp_path / "data", tmp_path / "log"):
        pass
    assert (tmp_path / "log").stat().st_size > 0
