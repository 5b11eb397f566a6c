"""How busy the processors are is read from what the system counts."""

import time
from pathlib import Path

import pytest

from ripieno import processors
from ripieno.processors import Processors


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_LEAST_S", 0.0)


def test_idle_time_and_waiting_for_a_disk_are_not_busy(tmp_path: Path) -> None:
    statistics = tmp_path / "stat"
    statistics.write_text("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3\n")
    ours = Processors(statistics)
    assert ours.busy == 0.0
    statistics.write_text("cpu  130 5 110 720 110 10 10 5 90 0\ncpu0 1 2 3\n")
    assert ours.look() == pytest.approx(0.7)
    assert ours.look() == pytest.approx(0.7)  # nothing was counted since


@pytest.mark.parametrize("text", [None, "", "what"])
def test_where_nothing_is_counted_they_are_never_busy(tmp_path: Path, text: str | None) -> None:
    statistics = tmp_path / "stat"
    if text is not None:
        statistics.write_text(text)
    assert Processors(statistics).look() == 0.0


def test_work_is_seen() -> None:
    ours = Processors()
    ends_at = time.monotonic() + 0.3
    while time.monotonic() < ends_at:
        pass
    assert (0.0 < ours.look() <= 1.0) is Path("/proc/stat").exists()  # only Linux counts there
