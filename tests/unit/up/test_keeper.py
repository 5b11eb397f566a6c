"""The keeper: what it does when a service dies, or does not start."""

import asyncio
from collections.abc import Iterator

import pytest
import structlog

from ripieno.up import keeper
from ripieno.up.errors import ServiceFailedError


class Scripted:
    """A service whose starts fail or succeed by plan, and which dies as soon as it is waited for."""

    name = "scripted"

    def __init__(self, *starts_well: bool) -> None:
        self._plan: Iterator[bool] = iter(starts_well)
        self.events: list[str] = []
        self.played = asyncio.Event()

    async def start(self) -> None:
        well = next(self._plan, None)
        if well is None:
            self.played.set()
            await asyncio.Event().wait()
        self.events.append("started" if well else "failed")
        if not well:
            raise ServiceFailedError("by plan")

    async def wait(self) -> str:
        self.events.append("died")
        return "ended with exit code 1"

    async def discard(self) -> None:
        self.events.append("discarded")

    async def stop(self, hurry: asyncio.Event) -> None:
        raise AssertionError("the keeper stops nobody")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(keeper, "LONGEST_PAUSE_S", 0.002)


async def play(service: Scripted) -> asyncio.Event:
    serves = asyncio.Event()
    keeping = asyncio.create_task(keeper.keep_running(service, serves))
    async with asyncio.timeout(10):
        await service.played.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    return serves


async def test_a_service_that_dies_is_cleared_away_and_started_again() -> None:
    service = Scripted(True, True)
    serves = await play(service)
    assert serves.is_set()
    assert service.events == ["started", "died", "discarded", "started", "died", "discarded"]


async def test_a_restart_that_fails_is_tried_again() -> None:
    service = Scripted(True, False, False, True)
    await play(service)
    assert service.events[2:] == [
        *("discarded", "failed"),
        *("discarded", "failed"),
        *("discarded", "started"),
        *("died", "discarded"),
    ]


async def test_why_a_service_is_not_started_again_is_told_once_while_it_lasts() -> None:
    service = Scripted(True, False, False, False, True, False, True)
    with structlog.testing.capture_logs() as told:
        await play(service)
    assert [(each["event"], each["tries"]) for each in told if "tries" in each] == [
        ("process_not_restarted", 1),
        ("process_restarted", 4),
        ("process_not_restarted", 1),
        ("process_restarted", 2),
    ]


async def test_a_first_start_that_fails_is_the_end() -> None:
    serves = asyncio.Event()
    with pytest.raises(ServiceFailedError, match="by plan"):
        await keeper.keep_running(Scripted(False), serves)
    assert not serves.is_set()
