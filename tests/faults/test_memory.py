"""Agents and workers hold no more after many tasks than after a few, whichever lane the tasks take."""

import shlex
import sys
from pathlib import Path

import pytest

from cli.running import RunningUp, running_up
from ripieno.client import AsyncClient

HERE = Path(__file__).parent
MIB = 1 << 20
DATA = b"y" * 20_000
#: Caches, arenas and the allocator are as large as they become after so many.
FIRST = 5_000
#: Submitted and read at a time.
BLOCK = 5_000
#: What allocators keep: half of what passes through one worker in the smaller test.
SLACK_BYTES = 48 * MIB
#: Of one block, on a busy machine.
DEADLINE_S = 110.0


def _held(up: RunningUp) -> dict[str, int]:
    """Resident bytes of the agent and of each process below it that serves tasks."""
    agent = up.child("agent")
    assert agent is not None
    found = {f"agent {agent.pid}": agent.memory_info().rss}
    for process in agent.children(recursive=True):
        if "faults.echo:handle" in process.cmdline() and "worker" in process.cmdline():
            found[f"worker {process.pid}"] = process.memory_info().rss
    assert len(found) >= 3, found
    return found


async def _run(client: AsyncClient, count: int) -> None:
    session = await client.session(max_retries=0)
    tasks = await session.submit_many([DATA] * count)
    ended = 0
    async for result in session.results(tasks, timeout=DEADLINE_S):
        assert result.error is None, result.error
        ended += 1
    assert ended == count


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        pytest.param("", 10_000, id="batch-some"),
        pytest.param("", 95_000, marks=[pytest.mark.long, pytest.mark.timeout(590)], id="batch-many"),
        pytest.param("--single", 20_000, marks=[pytest.mark.long, pytest.mark.timeout(590)], id="process-many"),
    ],
)
async def test_memory_is_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, count: int) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    worker = f"{shlex.quote(sys.executable)} -m ripieno worker {flags} faults.echo:handle"
    async with (
        running_up(tmp_path / "data", "--slots", "2", "--worker", worker) as up,
        AsyncClient(up.address) as client,
    ):
        await _run(client, FIRST)
        before = _held(up)
        for _ in range(count // BLOCK):
            await _run(client, BLOCK)
        after = _held(up)
        assert after.keys() == before.keys(), "a worker was replaced"
        grown = {name: (after[name] - before[name]) / MIB for name in after}
        assert all(gained < SLACK_BYTES / MIB for gained in grown.values()), f"MiB gained in {count} tasks: {grown}"
