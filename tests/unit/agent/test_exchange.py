"""Answers to data requests: what waits for a worker that does not read counts as under way."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ripieno.agent.attempts.attempt import Attempt
from ripieno.agent.conversation import conversation as conversation_module
from ripieno.agent.conversation.conversation import Conversation
from ripieno.agent.conversation.effects import DataKind, DataRequested, Failed, ProcessRequest
from ripieno.agent.conversation.gathering import Limits
from ripieno.agent.main import Agent
from unit.agent import said
from unit.agent.running import SETTINGS
from unit.agent.test_broken_lanes import attempt
from unit.agent.test_objects import until


class Behind:
    """The way to a worker that reads nothing for now."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.waiting = 0

    async def send(self, attempt: Attempt, requests: Sequence[ProcessRequest]) -> None:
        self.waiting += 1
        await self.reads.wait()
        self.waiting -= 1


@pytest.mark.parametrize("reads", [False, True])
async def test_an_answer_is_under_way_until_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    async def read(_session_no: int, _kind: DataKind, _key: str) -> tuple[bytes, Callable[[], None]]:
        return b"", lambda: None

    house = Agent(replace(SETTINGS, slots=1, control=("unix:/nobody",)), tmp_path)
    monkeypatch.setattr(house.inputs, "read", read)
    monkeypatch.setattr(conversation_module, "MOST_REQUESTS", 1)
    asking, behind = attempt(1), Behind()
    asking.conversation = machine = Conversation("t", ["k"], Limits())
    running = asyncio.create_task(house.exchange.run())
    await until(lambda: house.exchange._tasks is not None)
    await house.exchange.carry_out(behind, asking, machine.receive(said.resource("x", "first")))
    await until(lambda: behind.waiting == 1)
    if reads:
        behind.reads.set()
        await until(lambda: machine._requests == 0)
    (effect,) = machine.receive(said.resource("x", "second"))
    assert isinstance(effect, DataRequested if reads else Failed)
    running.cancel()
    await asyncio.wait([running])
