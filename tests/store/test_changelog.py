"""The log of changes: everything once, in the order of the commits, however transactions cross."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from ripieno.domain.changes import Change, ResultChange, SessionChange, TaskChange
from ripieno.domain.errors import InvalidRequestError
from ripieno.store.changelog import log
from ripieno.store.changelog.beginning import Beginning
from ripieno.store.changelog.cursors import Cursor
from ripieno.store.changelog.expansion import expand
from ripieno.store.changelog.log import ChangeLog, DroppedError
from ripieno.store.changelog.snapshots import Snapshot
from ripieno.store.changelog.trimming import mark, trim
from ripieno.store.database.database import Database
from store.world import World, done, failed, task


class Reader:
    """A reader of the log, who keeps what was told."""

    def __init__(self, world: World, cursor: Cursor) -> None:
        self.log = ChangeLog(world.database)
        self._database = world.database
        self.cursor = cursor
        self.changes: list[Change] = []

    @classmethod
    async def begin(cls, world: World) -> "Reader":
        """Return a reader of what comes from now on."""
        return cls(world, await ChangeLog(world.database).now())

    async def read(self, sessions: list[int] | None = None) -> list[Change]:
        """Read to the end; what was new."""
        new: list[Change] = []
        complete = False
        while not complete:
            batch = await self.log.read(self.cursor, sessions)
            new += [change async for part in expand(self._database, batch.rows, most=2) for change in part]
            self.cursor, complete = Cursor.parse("cursor", str(batch.cursor)), batch.complete
        self.changes += new
        return new


def said(changes: Iterable[Change]) -> list[str]:
    """In short."""
    return [_short(change) for change in changes]


def _short(change: Change) -> str:
    if isinstance(change, SessionChange):
        return f"{change.session_id} {change.status.name}"
    if isinstance(change, ResultChange):
        size = f" {change.size}" if change.size else ""
        return f"{change.key} {change.status.name} of {change.owner_task_id or '-'}{size}"
    marks = "".join([" created" if change.created else "", " ready" if change.ready else ""])
    return f"{change.task_id} {change.status.name} {change.attempt}{marks}"


async def test_a_graph_tells_its_whole_life(database: Database) -> None:
    world = World(database)
    reader = await Reader.begin(world)
    await world.session()
    await world.submit(task("a", "x"), task("b", "y", needs=["x"]))
    told = said(await reader.read())
    assert told[0] == "s RUNNING"
    assert sorted(told[1:]) == [
        "a SUBMITTED 0 created ready",
        "b SUBMITTED 0 created",
        "x CREATED of a",
        "y CREATED of b",
    ]
    claimed = await world.claim()
    assert said(await reader.read()) == ["a DISPATCHED 0"]
    await world.commit(failed(claimed["a"]))
    assert said(await reader.read()) == ["a SUBMITTED 1"]
    claimed = await world.claim()
    await world.commit(done(claimed["a"], {"x": b"four"}))
    told = said(await reader.read())
    assert told[0] == "a DISPATCHED 1"
    assert sorted(told[1:]) == ["a COMPLETED 1", "b SUBMITTED 0 ready", "x COMPLETED of a 4"]
    await world.cancel_session()
    assert sorted(said(await reader.read())) == ["b CANCELLED 0", "s CANCELLED", "y ABORTED of b"]
    assert await reader.read() == []


async def test_a_failure_goes_down_the_graph(world: World) -> None:
    reader = await Reader.begin(world)
    await world.submit(task("a", "x"), task("b", "y", needs=["x"]), task("c", "z", needs=["y"]))
    for _ in range(3):
        claimed = await world.claim()
        await world.commit(failed(claimed["a"]))
    told = said(await reader.read())
    assert told.index("a ERROR 2") < told.index("b ERROR 0") < told.index("c ERROR 0")
    assert [each for each in told if "ABORTED" in each] == ["x ABORTED of a", "y ABORTED of b", "z ABORTED of c"]


async def test_one_session_of_several(world: World) -> None:
    reader, all_of_it = await Reader.begin(world), await Reader.begin(world)
    other = await world.session("other")
    await world.submit(task("mine", "x"))
    await world.submit(task("its", "x"), session_id="other")
    assert [change.session_id for change in await reader.read([other])] == ["other"] * 3
    assert {change.session_id for change in await all_of_it.read()} == {"s", "other"}


@asynccontextmanager
async def open_transaction(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of a replica, begun by hand; committed at the end unless it was before."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("set search_path = ripieno")
        await connection.execute("begin")
        await connection.execute("select pg_current_xact_id()")
        yield connection
    finally:
        await connection.close()


_APPEND = "insert into changes (session_no, kind, status) values ($1, 1, 1)"


async def test_what_was_numbered_first_and_committed_last_is_not_missed(world: World, database_url: str) -> None:
    session_no = await world.number()
    reader = await Reader.begin(world)
    async with open_transaction(database_url) as early, open_transaction(database_url) as late:
        await early.execute(_APPEND, session_no)
        await late.execute(_APPEND, session_no)
        assert await reader.read() == []
        await late.execute("commit")
        assert len(await reader.read()) == 1
        await early.execute("commit")
        assert len(await reader.read()) == 1
        assert await reader.read() == []


async def test_the_older_transaction_that_came_second_to_a_task_is_told_second(world: World, database_url: str) -> None:
    await world.submit(task("a", "x"))
    [[task_no]] = await world.rows("select task_no from tasks")
    append = "insert into changes (session_no, kind, status, task_nos) values ($1, 4, $2, $3)"
    session_no = await world.number()
    reader = await Reader.begin(world)
    async with open_transaction(database_url) as older, open_transaction(database_url) as younger:
        await younger.execute("select from states where task_no = $1 for update", task_no)
        await younger.execute(append, session_no, 2, [task_no])
        locking = asyncio.create_task(older.execute("select from states where task_no = $1 for update", task_no))
        await younger.execute("commit")
        await locking
        await older.execute(append, session_no, 3, [task_no])
        await older.execute("commit")
        assert said(await reader.read()) == ["a DISPATCHED 0", "a PROCESSING 0"]
        await world.rows("delete from changes where kind = 4")  # they were not true


async def test_a_long_transaction_of_somebody_else_holds_no_reader_up(world: World, database_url: str) -> None:
    reader = await Reader.begin(world)
    async with open_transaction(database_url):
        await world.submit(task("a", "x"))
        assert len(await reader.read()) == 2


async def test_batches_are_bounded_and_begin_where_the_last_one_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_ROWS", 3)
    reader, other = await Reader.begin(world), await Reader.begin(world)
    for number in range(10):
        await world.submit(task(f"t{number}", f"k{number}"))
        if number == 4:
            await mark(world.database)
    first = await reader.log.read(reader.cursor, None)
    assert len(first.rows) == 3 and not first.complete
    told = said(await reader.read())
    assert told == [text for n in range(10) for text in (f"k{n} CREATED of t{n}", f"t{n} SUBMITTED 0 created ready")]
    assert said(await other.read()) == told


async def test_what_was_dropped_is_told_to_those_who_had_not_read_it(world: World) -> None:
    early, late = await Reader.begin(world), await Reader.begin(world)
    await world.submit(task("a", "x"))
    await late.read()
    await mark(world.database)
    await world.submit(task("b", "y"))
    assert await trim(world.database, age_s=3600, size=1_000_000) == 0
    assert await trim(world.database, age_s=3600, size=0) == 2  # the session, and what was marked
    with pytest.raises(DroppedError, match="too old"):
        await early.read()
    assert said(await late.read()) == ["y CREATED of b", "b SUBMITTED 0 created ready"]
    assert await trim(world.database, age_s=0, size=1_000_000) == 0  # nothing is marked


async def test_cursors_of_other_databases_and_of_the_future_are_no_good(world: World) -> None:
    cursor = await ChangeLog(world.database).now()
    with pytest.raises(DroppedError, match="another database"):
        await ChangeLog(world.database).check(Cursor("0" * 32, cursor.seen))
    with pytest.raises(DroppedError, match="later state"):
        await ChangeLog(world.database).read(Cursor(cursor.origin, "900000000:900000000:"), None)


@pytest.mark.parametrize("text", ["x", "ä", "MTox", "e" * 600_000, "\0"])
def test_rubbish_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"cursor: .* is not a cursor of this log"):
        Cursor.parse("cursor", text)


async def test_nothing_is_told_before_it_is_on_the_disk(world: World) -> None:
    """A claim's commit does not wait for the disk; its reader does."""
    await world.submit(task("a", "x"))
    reader = await Reader.begin(world)
    for number in range(20):
        await world.submit(task(f"t{number}", f"k{number}"))
        await reader.read()
        assert await world.claim()
        [[written]] = await world.rows("select pg_current_wal_insert_lsn()::text")
        assert "DISPATCHED" in said(await reader.read())[0]
        assert await world.rows("select pg_current_wal_flush_lsn() >= $1::text::pg_lsn", written) == [(True,)]


class Latest:
    """What somebody knows who believes what he is told, and complains about what he was told already."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskChange] = {}
        self.results: dict[str, ResultChange] = {}

    def hear(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, TaskChange):
                before = self.tasks.get(change.task_id)
                assert (before is None) == change.created
                if before is not None and not (change.ready and not before.ready):
                    assert (before.status, before.attempt) != (change.status, change.attempt), change
                    assert not before.status.final
                self.tasks[change.task_id] = change
            elif isinstance(change, ResultChange):
                known = self.results.get(change.key)
                assert known is None or (known.status, known.owner_task_id) != (change.status, change.owner_task_id)
                assert known is None or not known.status.final
                self.results[change.key] = change


async def test_a_snapshot_and_what_came_while_it_was_read_fit(world: World) -> None:
    chance = random.Random(5)
    await world.submit(*(task(f"t{n:03}", f"k{n:03}") for n in range(60)))
    known = Latest()
    reader = await Reader.begin(world)
    pages = Beginning(world.database, reader.log, [await world.number()], page=7)
    number = 60
    async for page in pages.pages():
        known.hear(page)
        match chance.randrange(4):  # things go on while pages are read
            case 0:
                await world.submit(task(f"t{number:03}", f"k{number:03}"))
                number += 1
            case 1:
                await world.claim(3)
            case 2:
                for claimed in (await world.claim(5)).values():
                    key = claimed.expected_output_keys[0]
                    await world.commit(done(claimed, {key: b"v"}) if chance.random() < 0.7 else failed(claimed))
            case 3:
                await world.cancel(f"t{chance.randrange(number):03}")
    complete = False
    while not complete:
        batch = await reader.log.read(reader.cursor, None)
        async for changes in expand(world.database, batch.rows, pages.told):
            known.hear(changes)
        reader.cursor, complete = batch.cursor, batch.complete
    rows = await world.rows("select t.id, s.status, s.retry from tasks t join states s using (task_no) order by t.id")
    assert sorted((name, int(c.status), c.attempt) for name, c in known.tasks.items()) == rows
    results = await world.rows("select key, status from results order by key")
    assert sorted((key, int(change.status)) for key, change in known.results.items()) == results


async def test_a_session_without_anything_and_all_sessions(world: World) -> None:
    await world.session("other")
    pages = [page async for page in Beginning(world.database, ChangeLog(world.database), None).pages()]
    assert said(change for page in pages for change in page) == ["s RUNNING", "other RUNNING"]


def test_snapshots_see_what_postgresql_says() -> None:
    some = Snapshot.parse("10:20:12,15")
    assert [number for number in (9, 10, 12, 15, 19, 20) if some.sees(number)] == [9, 10, 19]
    assert some.sees_all_of(Snapshot.parse("10:20:12,15,16")) and not some.sees_all_of(Snapshot.parse("10:20:12"))
    assert some.sees_all_of(Snapshot.parse("9:15:9")) and not some.sees_all_of(Snapshot.parse("11:21:"))
    assert Snapshot.parse("5:5:").sees(4)


async def test_replicas_that_trim_at_once_agree(world: World) -> None:
    early = await Reader.begin(world)
    for number in range(5):
        await world.submit(task(f"t{number}", f"k{number}"))
        await mark(world.database)
    await asyncio.gather(*(trim(world.database, age_s=3600, size=size) for size in (0, 200, 0, 400)))
    [[dropped, left]] = await world.rows(
        "select changes_dropped is not null, (select count(*) from changes) from cluster"
    )
    assert (dropped, left) == (True, 0)
    with pytest.raises(DroppedError, match="too old"):
        await early.read()
