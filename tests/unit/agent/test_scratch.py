"""An agent's directory: its own while it lives, whatever other agents on this machine do at that moment."""

from pathlib import Path

import pytest

from ripieno.agent.data import scratch
from ripieno.agent.data.scratch import hold, locked_directory, sweep


def test_a_leftover_goes_and_what_is_held_stays(tmp_path: Path) -> None:
    left = tmp_path / "ripieno-agent-left"
    left.mkdir()
    (left / "data").write_bytes(b"x")
    with locked_directory(tmp_path) as mine:
        assert not left.exists()
        sweep(tmp_path)
        assert mine.exists() and hold(mine) is None
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_starts_while_another_sweeps_has_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []

    def hold_late(path: Path) -> int | None:
        if not swept:  # the other agent comes between the making and the locking
            swept.append(path)
            sweep(tmp_path)
        return hold(path)

    monkeypatch.setattr(scratch, "hold", hold_late)
    with locked_directory(tmp_path) as mine:
        assert mine.exists() and swept != [mine]
