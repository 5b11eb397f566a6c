"""News that gather while no message gets through are bounded, and still make others look."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from control.replica import until
from ripieno.control.waiting.notices import Notices
from ripieno.store.cluster.signals import News, Signals
from ripieno.store.database.database import Database
from ripieno.store.sessions.changes import Changes

EVERYTHING = News(everything=True)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """One that no replica serves."""
    async with Database.open(database_url) as opened:
        yield opened


async def test_what_gathers_is_bounded_in_names_and_in_bytes(database: Database) -> None:
    notices, told = Notices(Signals(database, "teller")), 0
    for number in range(20_000):
        notices.publish(
            Changes(
                sessions={number},
                partitions={f"p{number}"},
                aborted={number % 7: [f"{number:01000d}"]},
                ended={number % 7: [number]},
                connected={number: 1},
            )
        )
        told = max(told, notices.named)
    assert 100 < told <= 2_000
    assert notices.named_bytes <= 256 * 1024


async def test_more_than_can_be_named_is_told_as_everything(database: Database) -> None:
    teller, hearer = Notices(Signals(database, "teller")), Notices(Signals(database, "hearer"))
    heard: list[News] = []
    hearer.subscribe(remote=heard.append)
    async with asyncio.timeout(60):
        listening = asyncio.create_task(hearer.run())
        await until(lambda: heard == [EVERYTHING])  # what each of them says to itself when it has begun
        for number in range(5_000):
            teller.publish(Changes(sessions={number}))
        telling = asyncio.create_task(teller.run())
        await until(lambda: heard[1:] == [EVERYTHING])
        teller.publish(Changes(sessions={7}))
        await until(lambda: News(frozenset({7})) in heard)
        for running in (listening, telling):
            running.cancel()
        await asyncio.gather(listening, telling, return_exceptions=True)


async def test_whoever_begins_to_listen_is_told_that_anything_may_have_changed(database: Database) -> None:
    """What was committed and not told because nobody listened may have come after its first look."""
    signals = Signals(database, "teller")
    teller, hearer = Notices(signals), Notices(Signals(database, "hearer"))
    heard: list[News] = []
    hearer.subscribe(remote=heard.append)
    async with asyncio.timeout(60):
        telling = asyncio.create_task(teller.run())
        await until(lambda: signals.alone)
        teller.publish(Changes(sessions={7}))
        listening = asyncio.create_task(hearer.run())
        await until(lambda: heard == [EVERYTHING, EVERYTHING])
        for running in (listening, telling):
            running.cancel()
        await asyncio.gather(listening, telling, return_exceptions=True)
