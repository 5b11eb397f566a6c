"""`ripieno up` from outside: ready, refusals, restarts, stops."""

import signal
import socket
import time
from pathlib import Path

import pytest

from cli.calls import create_session, sessions
from cli.running import refused, running_up

SECONDS_UNTIL_READY_AGAIN = 3.0


async def test_ready_line_names_address_directory_and_slots(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        assert up.ready_line == (
            f"ripieno ready at {up.address} (data {tmp_path / 'data'}, 1 slot; Ctrl-C drains and stops)\n"
        )
        assert await sessions(up.address) == []


async def test_what_was_submitted_is_there_after_a_restart_which_is_quick(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        await create_session(up.address, "kept")
    began = time.monotonic()
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        assert time.monotonic() - began < SECONDS_UNTIL_READY_AGAIN
        assert await sessions(up.address) == ["kept"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_and_exits_with_0(tmp_path: Path, number: signal.Signals) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        code, errors = await up.end(number)
        assert code == 0
        assert errors == "ripieno: draining; once more to hurry\n"


async def test_a_second_up_on_the_directory_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        before = sorted(tmp_path.rglob("lock"))
        code, message = await refused("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
        assert code == 1
        assert f"in use by another `ripieno up` (process {up.process.pid})" in message
        assert "--data" in message
        assert sorted(tmp_path.rglob("lock")) == before
        assert await sessions(up.address) == []


async def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, message = await refused("--data", str(tmp_path / "data"), "--listen", address)
    assert code == 1
    assert f"cannot listen at {address}: the port is in use" in message
    assert "--listen" in message


@pytest.mark.parametrize("name", ["with space, comma and 'quote'", "deep" * 40])
async def test_any_directory_will_do(tmp_path: Path, name: str) -> None:
    async with running_up(tmp_path / name / "data", "--slots", "1") as up:
        await create_session(up.address, "s")
    async with running_up(tmp_path / name / "data", "--slots", "1") as up:
        assert await sessions(up.address) == ["s"]
