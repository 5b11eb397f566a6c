"""A worker that is gone is given nothing more, also while nobody knows yet how it ended."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ripieno.agent.attempts.attempt import Attempt, RunOptions
from ripieno.agent.main import Agent
from ripieno.agent.transport.channels import worker_channel
from ripieno.agent.workers.batch_lane import BatchLane
from ripieno.agent.workers.process_lane import ProcessLane
from unit.agent.running import SETTINGS
from unit.agent.test_objects import until


def attempt(claim: int, *, large: bool = False) -> Attempt:
    made = Attempt(claim, 1, claim, "s", f"t{claim}", f"t{claim}", RunOptions({}, 60.0), ["k"], (), b"")
    made.large = large
    return made


def not_ours(reason: str) -> bool:
    return False


@pytest.fixture
def house(tmp_path: Path) -> Agent:
    """An agent's parts, of which none runs."""
    return Agent(replace(SETTINGS, slots=1, control=("unix:/nobody",)), tmp_path)


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a worker's socket: a short one."""
    return str(tmp_path_factory.mktemp("w") / "0.sock")


def starts_nothing_more(house: Agent) -> None:
    """What comes is for the next worker, and is not put down to the one that is gone."""
    (slot,) = house.slots
    attempts = [attempt(1, large=True), attempt(2)]
    house.dispatcher.assigned(attempts)
    assert not slot.inbox
    house.dispatcher.down(slot, "it died")
    assert list(house.dispatcher.attempts.values()) == attempts
    assert not any(each.alone for each in attempts)


async def test_a_broken_stream(house: Agent, path: str) -> None:
    (slot,) = house.slots
    async with await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path):
        lane = BatchLane(f"unix:{path}", slot, house.dispatcher, house.exchange, house.link, not_ours)
        with pytest.raises(ExceptionGroup, match="unhandled errors"):
            await lane.run()
    starts_nothing_more(house)


async def test_a_process_that_ended(house: Agent, path: str) -> None:
    (slot,) = house.slots
    async with worker_channel(f"unix:{path}") as channel:
        lane = ProcessLane(
            f"unix:{path}", channel, slot, house.dispatcher, house.exchange, house.link, not_ours, spawned=True
        )
        running = asyncio.create_task(lane.run())
        await until(lambda: slot.serves)
        running.cancel()
        await asyncio.wait([running])
    starts_nothing_more(house)
