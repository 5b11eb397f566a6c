"""Start-up before the first task, shutdown after the last: once a process, in the handler's thread, or with a reason."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ripieno.worker import HandlerError, shutdown, startup
from ripieno.worker.running import preparation
from ripieno.worker.running.preparation import prepared
from unit.worker import requests
from unit.worker.agents import agent_of, rest_of, results_of
from unit.worker.processes import HERE, worker_process

WAIT_S = 20


@pytest.mark.parametrize(("handler", "task"), [("handle", "task"), ("handle_async", "task True")])
async def test_a_worker_prepares_itself_once_and_puts_away_what_it_has(tmp_path: Path, handler: str, task: str) -> None:
    notes = tmp_path / "notes"
    # It serves when it says that it is ready, and by then both have run; the first line is what its start-up prints.
    with worker_process(
        f"prepared:{handler}",
        environment={"PREPARED_NOTES": str(notes)},
        first_lines=["printed by the start-up\n"],
        stderr=subprocess.PIPE,
    ) as worker:
        assert notes.read_text().split("\n") == ["first True", "second", ""]
        async with agent_of(worker.address, "batch") as agent:
            for _ in range(2):
                run = await agent.begin(requests.whole_task())
                assert results_of(await rest_of(run)) == {"r": str(tmp_path).encode()}, "it stays where it went"
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(WAIT_S) == 0
        assert worker.process.stderr is not None
        told = worker.process.stderr.read()
    assert notes.read_text().split("\n") == ["first True", "second", task, task, "last but one", "last", ""]
    assert "the shutdown function prepared:last_but_one failed:" in told
    assert "ValueError: it cannot be put away" in told


@pytest.mark.parametrize("handler", ["handle", "handle_async"])
def test_a_start_up_that_fails_ends_the_worker_with_its_reason(tmp_path: Path, handler: str) -> None:
    notes = tmp_path / "notes"
    variables = {"PREPARED_NOTES": str(notes), "PREPARED_FAILS": str(tmp_path / "model")}
    address = f"unix:{tmp_path}/w"
    ended = subprocess.run(
        [sys.executable, "-m", "ripieno.worker", f"prepared:{handler}", "--address", address],
        env={**os.environ, **variables},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):" and "there is no model" in lines[-2]
    assert lines[-1] == ("ripieno worker: the start-up function prepared:second failed: ValueError: there is no model")
    assert notes.read_text() == "first True\n", "nothing is put away that was not there"
    assert not (tmp_path / "w").exists(), "it never listened"


def test_a_loop_of_its_own_runs_what_is_async_beside_a_plain_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(preparation, "_startups", [])
    monkeypatch.setattr(preparation, "_shutdowns", [])

    @startup
    async def begin() -> None:
        await asyncio.sleep(0)
        ran.append("begin")

    @shutdown
    def end() -> None:
        ran.append("end")

    with prepared():
        assert ran == ["begin"]
    assert ran == ["begin", "end"]


def test_what_cannot_be_called_is_not_registered() -> None:
    for register in (startup, shutdown):
        with pytest.raises(HandlerError, match=f"@{register.__name__} registers a function, not int"):
            register(3)  # type: ignore[type-var]
