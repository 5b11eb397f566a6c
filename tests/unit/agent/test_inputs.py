"""What attempts read: fetched in bounded amounts, kept in bounded memory, whatever they depend on."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ripieno.agent.attempts.attempt import Spooled
from ripieno.agent.conversation.effects import DataKind
from ripieno.agent.conversation.gathering import Limits
from ripieno.agent.data.inputs import DataUnavailableError
from ripieno.agent.data.spool import Spool
from ripieno.agent.main import Agent
from unit.agent.conftest import Serve
from unit.agent.replica import Replica, Task
from unit.agent.running import SETTINGS, agent
from unit.agent.test_lanes import both_lanes


@both_lanes
async def test_what_is_too_much_for_memory_waits_on_the_disk(
    replica: Replica, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: bool
) -> None:
    monkeypatch.setattr("ripieno.agent.data.inputs.KEPT_BYTES", 100_000)
    kept: list[Spooled] = []
    former = Spool.keep

    async def keep(self: Spool, data: bytes) -> Spooled:
        kept.append(await former(self, data))
        return kept[-1]

    monkeypatch.setattr(Spool, "keep", keep)
    replica.results = {f"d{number}": b"%d" % (number % 10) * 10_000 for number in range(60)}
    replica.most_fetched = 7
    worker, address = await serve(batch=batch)
    async with agent(replica, attach=(address,), scratch=tmp_path, cache_bytes=0):
        keys = tuple(replica.results)
        replica.submit(Task("t", payload=b"nothing", dependencies=keys), Task("u", payload=b"x", dependencies=keys[:3]))
        for task_id in ("t", "u"):
            outcome = await replica.outcome_of(task_id)
            assert outcome.HasField("completed"), outcome.failed.detail
        assert 40 <= len(kept) <= 52, "but for the first 100,000 bytes and what came with the last reply"
        assert not any(file.path.exists() for file in kept)
    data = [line for line in worker.orders["t"] if line.startswith("data ") and line != "data complete"]
    assert sum(int(line.split()[1]) for line in data) == 600_000
    assert [line.split()[1] for line in worker.orders["t"] if line.startswith("key")] == list(keys)


async def test_no_more_is_asked_for_than_was_answered(replica: Replica, serve: Serve) -> None:
    """The control plane reads all that it is asked for, and leaves out what makes its reply too long."""
    replica.results = {f"d{number}": b"x" for number in range(100)}
    replica.most_fetched = 10
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", dependencies=tuple(replica.results)))
        await replica.outcome_of("t")
    assert [len(keys) for keys in replica.fetches][:2] == [100, 10]
    assert sum(len(keys) for keys in replica.fetches) <= 100 + 90 * 2


async def test_a_key_that_is_refused_fails_its_attempt_alone(replica: Replica, serve: Serve) -> None:
    replica.results = {f"d{number}": b"x" for number in range(9)}
    replica.refused_key = "bad"
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        tasks = [Task(f"t{number}", dependencies=(f"d{number}", "bad")[: 1 + (number == 4)]) for number in range(9)]
        replica.submit(*tasks)
        for number, task in enumerate(tasks):
            outcome = await replica.outcome_of(task.id)
            assert outcome.HasField("failed") == (number == 4), outcome.failed.detail
            assert "refused" in outcome.failed.detail or number != 4


async def test_data_for_many_attempts_is_fetched_in_turn(
    replica: Replica, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ripieno.agent.data.inputs._BATCH", 10)
    replica.results = {f"d{number}": b"x" for number in range(400)}
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,), cache_bytes=0):
        tasks = [
            Task(f"t{number}", dependencies=tuple(f"d{key}" for key in range(number * 4, number * 4 + 4)))
            for number in range(100)
        ]
        replica.submit(*tasks)
        await replica.until(lambda: len(replica.outcomes) == 100)
    assert all(outcome.HasField("completed") for (outcome,) in replica.outcomes.values())
    assert max(len(keys) for keys in replica.fetches) <= 10


async def test_common_data_that_cannot_be_had_leaves_nothing_behind(replica: Replica, tmp_path: Path) -> None:
    house = Agent(replace(SETTINGS, slots=1, control=(replica.address,)), tmp_path)
    house.link.connected(replica.address, Limits(), None)
    fetching = asyncio.create_task(house.inputs.run())
    with pytest.raises(DataUnavailableError):
        await house.inputs.read(1, DataKind.COMMON, "nowhere")
    assert not house.inputs._common_locks
    fetching.cancel()
    await asyncio.wait([fetching])
    await house.link.close()
    house.sockets.remove()
