"""`ripieno up` when one of its processes, or it itself, is killed."""

import shutil
import signal
from pathlib import Path

import pytest

from cli.calls import create_session, sessions
from cli.running import RunningUp, alive, running_up, until


async def killed_and_back(up: RunningUp, name: str) -> None:
    victim = up.child(name)
    assert victim is not None
    victim.send_signal(signal.SIGKILL)
    await until(lambda: up.child(name) not in (None, victim))


@pytest.mark.parametrize("name", ["control", "agent", "postgres"])
async def test_a_killed_process_is_started_again_at_the_same_address(tmp_path: Path, name: str) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        await create_session(up.address, "before")
        await killed_and_back(up, name)
        assert await sessions(up.address) == ["before"]
        await create_session(up.address, "after")


async def test_directories_that_somebody_removed_are_made_again(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        shutil.rmtree(tmp_path / "data" / "logs")
        shutil.rmtree(tmp_path / "data" / "run")
        for name in ("postgres", "agent", "control"):
            await killed_and_back(up, name)
        await create_session(up.address, "after")


async def test_a_process_that_cannot_be_started_is_tried_again_until_it_can(tmp_path: Path) -> None:
    logs = tmp_path / "data" / "logs"
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        shutil.rmtree(logs)
        logs.write_text("in the way")
        victim = up.child("control")
        assert victim is not None
        victim.send_signal(signal.SIGKILL)
        await until(lambda: up.child("control") is None)
        logs.unlink()
        await until(lambda: up.child("control") is not None)
        await create_session(up.address, "after")


async def test_after_a_kill_of_up_its_processes_end_and_the_next_up_serves_the_same_data(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        await create_session(up.address, "kept")
        orphans = up.family()[1:]
        await up.end(signal.SIGKILL)
        async with running_up(tmp_path / "data", "--slots", "1", listen=up.address) as again:
            assert await sessions(again.address) == ["kept"]
            await until(lambda: not any(alive(orphan) for orphan in orphans))


async def test_processes_end_by_themselves_when_up_is_killed(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        orphans = up.family()[1:]
        assert len(orphans) > 3
        await up.end(signal.SIGKILL)
        await until(lambda: not any(alive(orphan) for orphan in orphans))
