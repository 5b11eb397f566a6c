"""Long questions wait for their turn, and no more of them than there is room for."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from ripieno.control.calls import questions
from ripieno.control.calls.questions import MANY_IDS, Questions
from ripieno.domain.errors import OverloadedError

MIB = 1024 * 1024


async def test_whoever_finds_no_room_is_refused_at_once_and_may_come_again() -> None:
    asked = Questions()
    async with AsyncExitStack() as answering:
        for size in (32 * MIB, 16 * MIB):
            await answering.enter_async_context(asked.turn(None, size))
        waiting = asyncio.create_task(answering_one(asked, 16 * MIB))
        await asyncio.sleep(0)  # it waits for its turn, and holds the rest of the room
        async with asyncio.timeout(1):
            with pytest.raises(OverloadedError, match="send the same again"):
                await answering_one(asked, 1)
        assert not waiting.done()
        async with asked.turn(MANY_IDS, MIB):
            pass  # a short question waits for nobody
    await waiting
    async with asked.turn(None, 64 * MIB):
        pass  # all room is there again


async def test_room_is_given_back_by_whoever_waits_in_vain_or_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_PATIENCE_S", 0.01)
    asked = Questions()
    async with asked.turn(None, 1), asked.turn(None, 1):
        with pytest.raises(OverloadedError):
            await answering_one(asked, 50 * MIB)
        monkeypatch.setattr(questions, "_PATIENCE_S", 10)
        gone = asyncio.create_task(answering_one(asked, 50 * MIB))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    async with asked.turn(None, 64 * MIB):
        pass


async def answering_one(asked: Questions, size: int) -> None:
    async with asked.turn(None, size):
        pass
