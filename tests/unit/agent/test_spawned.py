"""Worker processes of the agent's own: death, kill and replacement, the agent's own death."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from ripieno.agent.data.scratch import SocketDirectory
from ripieno.agent.workers import keeper
from ripieno.agent.workers.supervisor import worker_command
from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.replica import Replica, Task
from unit.agent.running import TOY, agent
from unit.agent.test_lanes import inline_result

Reason = agent_pb2.Outcome.Failed
both_lanes = pytest.mark.parametrize("command", [TOY, f"{TOY} batch"], ids=["process", "batch"])


async def pid_of_worker(replica: Replica, name: str) -> int:
    replica.submit(Task(name, payload=b"pid"))
    return int(inline_result(await replica.outcome_of(name)))


@both_lanes
async def test_a_worker_that_dies_is_replaced(replica: Replica, command: str, caplog: pytest.LogCaptureFixture) -> None:
    async with agent(replica, worker=command):
        first = await pid_of_worker(replica, "first")
        replica.submit(Task("dies", payload=b"die"))
        failed = (await replica.outcome_of("dies")).failed
        assert failed.reason == Reason.ATTEMPT
        assert failed.detail == "the worker process ended with exit code 3"
        second = await pid_of_worker(replica, "second")
        assert first != second
        os.kill(second, signal.SIGKILL)
        async with asyncio.timeout(5):
            while "SIGKILL" not in caplog.text:  # noqa: ASYNC110 - the log is all there is to wait for
                await asyncio.sleep(0.005)
        third = await pid_of_worker(replica, "third")
    assert not any(psutil.pid_exists(pid) for pid in (first, second, third))
    assert all(len(outcomes) == 1 for outcomes in replica.outcomes.values())


async def test_what_was_sent_ahead_of_a_death_runs_again(replica: Replica) -> None:
    """Nobody can tell which of them ran: each runs alone, the guilty one is found, no other suffers."""
    async with agent(replica, worker=f"{TOY} batch"):
        for number in range(30):  # teach it that attempts are short, so that several are sent ahead
            replica.submit(Task(f"warm {number}"))
        await replica.until(lambda: len(replica.outcomes) == 30)
        names = [f"t{number}" for number in range(8)]
        replica.submit(*[Task(name, payload=b"die" if name == "t2" else b"x") for name in names])
        await replica.until(lambda: all(name in replica.outcomes for name in names))
    assert replica.outcomes["t2"][0].failed.reason == Reason.ATTEMPT
    assert all(replica.outcomes[name][0].HasField("completed") for name in names if name != "t2")
    assert all(len(outcomes) == 1 for outcomes in replica.outcomes.values())


@pytest.mark.parametrize(
    ("command", "payload"),
    [(TOY, b"hog:60"), (f"{TOY} batch", b"hog:60"), (f"{TOY} batch", b"stuck:60")],
    ids=["process", "batch", "batch-deaf"],
)
async def test_a_worker_that_does_not_yield_is_killed_and_replaced(
    replica: Replica, command: str, payload: bytes
) -> None:
    async with agent(replica, worker=command):
        first = await pid_of_worker(replica, "first")
        replica.submit(Task("slow", payload=payload, max_duration_s=0.1), Task("next", payload=b"pid"))
        failed = (await replica.outcome_of("slow")).failed
        assert failed.reason == Reason.TIMEOUT
        assert not psutil.pid_exists(first)
        assert int(inline_result(await replica.outcome_of("next"))) != first
        replica.submit(Task("cancelled", payload=payload))
        await replica.until(lambda: "cancelled" in replica.started)
        replica.cancel("cancelled")
        await replica.until(lambda: replica.interrupting == ["cancelled"])
        assert (await replica.outcome_of("cancelled")).HasField("cancelled")


async def test_a_worker_that_yields_is_kept(replica: Replica) -> None:
    async with agent(replica, worker=TOY):
        first = await pid_of_worker(replica, "first")
        replica.submit(Task("slow", payload=b"nap:60", max_duration_s=0.1))
        assert (await replica.outcome_of("slow")).failed.reason == Reason.TIMEOUT
        assert await pid_of_worker(replica, "second") == first


async def test_the_worker_finds_its_address_twice(replica: Replica, tmp_path: Path) -> None:
    script = f"import os; open({str(tmp_path / 'seen')!r}, 'a').write(os.environ['RIPIENO_WORKER_ADDRESS'] + ' {{address}}\\n')"
    command = f'{sys.executable} -c "{script.replace("{{address}}", "{address}")}"'
    async with agent(replica, worker=command):
        async with asyncio.timeout(10):
            while not (tmp_path / "seen").exists() or not (tmp_path / "seen").read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    variable, word = (tmp_path / "seen").read_text().splitlines()[0].split()
    assert variable == word
    assert variable.startswith("unix:/")


async def test_two_slots_run_at_once(replica: Replica) -> None:
    async with agent(replica, worker=f"{TOY} batch", slots=2):
        await replica.until(lambda: replica.credit >= 2)  # both serve
        replica.submit(Task("a", payload=b"nap:0.4"), Task("b", payload=b"nap:0.4"))
        a, b = await replica.outcome_of("a"), await replica.outcome_of("b")
    assert a.worker != b.worker
    assert abs(a.started_at_us - b.started_at_us) < 400_000


async def test_workers_die_with_an_agent_that_is_killed(replica: Replica) -> None:
    program = (
        "import asyncio, sys; from ripieno.agent.main import run_agent; from ripieno.config import AgentSettings;"
        "asyncio.run(run_agent(AgentSettings(control=(sys.argv[1],), worker=sys.argv[2]),"
        " stop=asyncio.Event(), on_ready=lambda: None))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, replica.address, f"{TOY} batch")
    worker = psutil.Process(await pid_of_worker(replica, "t"))
    process.kill()
    await process.wait()
    await asyncio.to_thread(worker.wait, 5)


def test_sockets_lie_in_scratch_unless_that_is_too_deep(tmp_path: Path) -> None:
    shallow, deep = Path("/tmp/x"), tmp_path / ("d" * 100)
    assert SocketDirectory(shallow).address(0, 1) == "unix:/tmp/x/worker-0-1.sock"
    directory = SocketDirectory(deep)
    address = directory.address(0, 1)
    folder = Path(address.removeprefix("unix:")).parent
    assert folder.is_dir() and len(address) < 108
    directory.remove()
    assert not folder.exists()


def test_commands() -> None:
    assert worker_command(None) == [sys.executable, "-m", "ripieno", "worker"]
    assert worker_command("run 'my worker' {address}") == ["run", "my worker", "{address}"]
    with pytest.raises(ValueError, match="empty"):
        worker_command(" ")


async def test_a_worker_whose_start_up_fails_is_tried_again_with_pauses_and_its_reason_is_logged(
    replica: Replica, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No attempt is used up, and once the start-up succeeds the worker serves."""
    notes, model = tmp_path / "notes", tmp_path / "model"
    variables = f"env PREPARED_NOTES={notes} PREPARED_FAILS={model} PYTHONPATH={Path(__file__).parents[1] / 'worker'}"
    async with agent(replica, worker=f"{variables} {sys.executable} -m ripieno.worker prepared:handle"):
        replica.submit(Task("t"))
        async with asyncio.timeout(60):
            while "there is no model" not in caplog.text:  # noqa: ASYNC110 - the log is all there is to wait for
                await asyncio.sleep(0.005)
        assert "it never served: the worker process ended with exit code 2; it printed last:" in caplog.text
        assert "the start-up function prepared:second failed: ValueError: there is no model" in caplog.text
        model.touch()
        assert (await replica.outcome_of("t", 60)).HasField("completed")


def test_pauses_grow_unless_a_worker_has_served_for_long() -> None:
    """A start-up that takes long before it fails is not begun anew at once."""
    long_ago = time.monotonic() - 2 * keeper.LIVED_S
    pauses = [0.0]
    for _ in range(20):
        pauses.append(keeper._next_backoff(pauses[-1], long_ago, served=False))
    assert pauses[1] == keeper.FIRST_BACKOFF_S and pauses[-1] == keeper.LAST_BACKOFF_S
    assert keeper._next_backoff(pauses[-1], time.monotonic(), served=True) == keeper.LAST_BACKOFF_S
    assert keeper._next_backoff(pauses[-1], long_ago, served=True) == 0.0
