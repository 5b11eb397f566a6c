"""News between replicas: others hear it, oneself does not, and a broken line is noticed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from ripieno.domain.outcomes import Ticket
from ripieno.store.cluster import signals
from ripieno.store.cluster.signals import CHANNEL, News, Signals
from ripieno.store.database.database import Database

EVERYTHING = News(everything=True)


@asynccontextmanager
async def listening(database: Database, url: str, replica: str) -> AsyncIterator["asyncio.Queue[News]"]:
    """What a replica hears, from its first look at everything on."""
    heard: asyncio.Queue[News] = asyncio.Queue()
    listener = asyncio.create_task(Signals(database, replica).run(heard.put_nowait))
    try:
        async with asyncio.timeout(10):
            assert await heard.get() == EVERYTHING
        yield heard
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def test_others_hear_and_oneself_does_not(database: Database, database_url: str) -> None:
    news = News(frozenset({1, 2}), frozenset({"", "gpu", "ü"}), frozenset({7}))
    async with listening(database, database_url, "a") as a, listening(database, database_url, "b") as b:
        await Signals(database, "a").send(news)
        await Signals(database, "b").send(News())
        async with asyncio.timeout(10):
            assert await b.get() == news
            assert await a.get() == News()
        assert a.empty() and b.empty()


async def test_too_much_to_name_is_everything(database: Database, database_url: str) -> None:
    async with listening(database, database_url, "a") as heard:
        await Signals(database, "b").send(News(frozenset(range(100_000, 102_000))))
        await Signals(database, "b").send(News(partitions=frozenset({"ж" * 2_000})))
        async with asyncio.timeout(10):
            assert [await heard.get(), await heard.get()] == [EVERYTHING, EVERYTHING]


async def test_many_names_come_in_several_messages(database: Database, database_url: str) -> None:
    keys, tasks = [f"ключ {place}" for place in range(2_000)], list(range(10**18, 10**18 + 1_000))
    async with listening(database, database_url, "a") as heard:
        await Signals(database, "b").send(News(results={1: keys}, ended={2: tasks}, stopped=frozenset({3})))
        await Signals(database, "b").send(EVERYTHING)
        told: list[News] = []
        async with asyncio.timeout(10):
            while (news := await heard.get()) != EVERYTHING:
                told.append(news)
    assert [key for news in told for key in news.results.get(1, ())] == keys
    assert [task_no for news in told for task_no in news.ended.get(2, ())] == tasks
    assert frozenset[int]().union(*(news.stopped for news in told)) == {3}
    assert frozenset[int]().union(*(news.sessions for news in told)) == {1, 2}


async def test_a_broken_line_is_mended_and_everything_looked_at(database: Database, database_url: str) -> None:
    async with listening(database, database_url, "a") as heard:
        killed = await database.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'ripieno news' and datname = current_database()"
        )
        assert len(killed) == 1
        async with asyncio.timeout(20):
            assert await heard.get() == EVERYTHING
        await Signals(database, "b").send(News(frozenset({5})))
        async with asyncio.timeout(10):
            assert await heard.get() == News(frozenset({5}))


async def test_alone_until_another_listens(database: Database, database_url: str) -> None:
    one = Signals(database, "one")
    listener = asyncio.create_task(one.run(lambda _news: None))
    try:
        await _until(lambda: one.alone)
        async with listening(database, database_url, "other"):
            await _until(lambda: not one.alone)
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells of it but the attribute
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "text", ["", "hello", "[1]", "{}", '{"from": "b", "sessions": 5}', '{"from": "b", "results": []}']
)
async def test_what_cannot_be_read_may_have_been_anything(database: Database, database_url: str, text: str) -> None:
    """From a replica of another version, or from somebody else who uses the database."""
    async with listening(database, database_url, "a") as heard:
        await database.fetch("select pg_notify($1, $2)", CHANNEL, text)
        async with asyncio.timeout(10):
            assert await heard.get() == EVERYTHING


async def test_whoever_comes_while_listeners_are_counted_is_not_forgotten(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count of one listener was taken before the other came, and is told after it has said that it listens."""
    said: list[bool] = []
    alone = property(lambda _one: said[-1], lambda _one, value: said.append(value))
    monkeypatch.setattr(signals.Signals, "alone", alone, raising=False)
    counting = "select 1 from pg_advisory_xact_lock_shared(7) where $1 <> ''"
    monkeypatch.setattr(signals, "_LISTENERS", counting)
    monkeypatch.setattr(signals, "_COUNT_EVERY_S", 60.0)
    waits = "select from pg_stat_activity where query = $1 and wait_event_type = 'Lock'"
    gate = await asyncpg.connect(database_url)
    await gate.execute("select pg_advisory_lock(7)")
    one = Signals(database, "one")
    listener = asyncio.create_task(one.run(lambda _news: None))
    try:
        async with asyncio.timeout(20):
            while not await database.fetch(waits, counting):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await database.fetch("select pg_notify($1, $2)", CHANNEL, '{"from": "other", "listens": true}')
        await gate.execute("select pg_advisory_unlock(7)")
        await _until(lambda: len(said) == 2)  # as it begins, and by the count
        assert not one.alone
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        await gate.close()


async def test_what_somebody_follows_is_heard(database: Database, database_url: str) -> None:
    watched, followed = frozenset(range(10**18, 10**18 + 700)), [(7, Ticket(1, 2, place)) for place in range(100)]
    async with listening(database, database_url, "a") as heard:
        await Signals(database, "b").send(News(followed=followed, watched=watched))
        await Signals(database, "b").send(EVERYTHING)
        told: list[News] = []
        async with asyncio.timeout(10):
            while (news := await heard.get()) != EVERYTHING:
                told.append(news)
    assert frozenset().union(*(news.watched for news in told)) == watched
    assert [each for news in told for each in news.followed] == followed
