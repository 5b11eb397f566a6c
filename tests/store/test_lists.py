"""Lists against the reference evaluator: any filter, any sort, page by page in both ways."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripieno.domain.catalogue import Kind, Listed, fields_of, find_field
from ripieno.domain.errors import InvalidRequestError, LimitError
from ripieno.domain.queries import (
    _OPERATORS,
    _PRESENCE,
    Condition,
    Filter,
    Operator,
    Query,
    Sort,
    check_filter,
    check_query,
)
from ripieno.store.database.database import Database
from ripieno.store.reading import compiler, lists
from ripieno.store.reading.lists import Lists, PageOfRows
from store.reference import selected, value_of
from store.shelf import BEGAN, TEXTS, Row, Shelf, stocked

_PARTS = [
    "priority",
    "max_retries",
    "max_duration",
    "partition",
    "a",
    "%",
    "x.y",
    "none",
    "options.priority",
    "options.a",
]


class Library:
    """A stocked database, and what is asked of it."""

    def __init__(self, runner: asyncio.Runner, listing: Lists, shelf: Shelf) -> None:
        self.run = runner.run
        self.lists = listing
        self.shelf = shelf

    def page(self, listed: Listed, **asked: Any) -> PageOfRows:
        return self.run(self.lists.page(check_query(Query(listed, **asked))))

    def every(self, listed: Listed, *, by_number: bool = False, **asked: Any) -> list[Row]:
        """All rows, page by page."""
        rows: list[Row] = []
        page, number = self.page(listed, **asked), 0
        while True:
            rows += page.rows
            if not page.next_cursor:
                return rows
            number += 1
            page = self.page(listed, **asked, **({"page": number} if by_number else {"cursor": page.next_cursor}))


@pytest.fixture
def library(database_url: str) -> Iterator[Library]:
    async def opened() -> tuple[Lists, Shelf]:
        database = await stack.enter_async_context(Database.open(database_url))
        connection = await asyncpg.connect(database_url, server_settings={"search_path": "ripieno"})
        shelf = await stocked(connection)
        await connection.close()
        return Lists(database), shelf

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield Library(runner, *runner.run(opened()))
        finally:
            runner.run(stack.aclose())


def names(listed: Listed) -> list[str]:
    """Names of fields that conditions may name."""
    plain = [field.name for field in fields_of(listed).values() if field.kind is not Kind.OPTIONS]
    owners = [field.name for field in fields_of(listed).values() if field.kind is Kind.OPTIONS]
    return [*plain, *(f"{owner}.{part}" for owner in owners for part in _PARTS)]


def conditions(listed: Listed, rows: list[Row]) -> st.SearchStrategy[Condition]:
    """Conditions whose values often are those of a row, or a part of them."""

    def of(name: str) -> st.SearchStrategy[Condition]:
        field = find_field(listed, name, "")
        there = [value for row in rows if (value := value_of(row, name)) is not None]
        values: st.SearchStrategy[Any]
        if field.kind is Kind.STATUS:
            values = st.sampled_from([status.name for status in field.statuses])
        elif field.kind is Kind.TEXTS:
            values = st.sampled_from([text for texts in there for text in texts] + TEXTS)
        elif field.kind is Kind.TEXT:
            part = st.builds(
                lambda text, start, length: text[start : start + length],
                st.sampled_from([*there, *TEXTS]), st.integers(0, 3), st.integers(0, 4),
            )  # fmt: skip
            values = (
                st.sampled_from([*there, *TEXTS]) | part | st.text(st.characters(exclude_characters="\0"), max_size=3)
            )
        else:
            other: dict[Kind, st.SearchStrategy[Any]] = {
                Kind.NUMBER: st.integers(-(2**63), 2**63 - 1),
                Kind.TIME: st.just(BEGAN) | st.datetimes(timezones=st.just(UTC)),
                Kind.DURATION: st.timedeltas(timedelta(days=-(10**6)), timedelta(days=10**6)),
                Kind.BOOLEAN: st.booleans(),
            }
            values = st.sampled_from(there) | other[field.kind] if there else other[field.kind]
        compared = st.builds(Condition, st.just(name), st.sampled_from(sorted(_OPERATORS[field.kind], key=str)), values)
        return compared | st.builds(Condition, st.just(name), st.sampled_from(sorted(_PRESENCE, key=str)))

    return st.sampled_from(names(listed)).flatmap(of)


def filters(listed: Listed, rows: list[Row]) -> st.SearchStrategy[Filter]:
    one = conditions(listed, rows)
    return st.lists(st.lists(one, max_size=3), max_size=3) | st.lists(st.lists(one, min_size=1, max_size=1), max_size=8)


def sorts(listed: Listed) -> st.SearchStrategy[list[Sort]]:
    able = [name for name in names(listed) if find_field(listed, name, "").kind is not Kind.TEXTS]
    return st.lists(st.builds(Sort, st.sampled_from(able), st.booleans()), max_size=3)


def told(listed: Listed, row: Row) -> Row:
    """A row without what only orders the shelf."""
    return {name: row[name] for name in fields_of(listed)}


@pytest.mark.parametrize(
    ("listed", "planned"), [*((listed, 64) for listed in Listed), (Listed.TASKS, 1)], ids=lambda each: str(each)
)
def test_lists_answer_as_the_reference_does(
    library: Library, listed: Listed, planned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_MOST_PLANNED", planned)
    rows = library.shelf[listed]
    assert len(rows) > 3

    @settings(max_examples=40)
    @given(any_of=filters(listed, rows), sort=sorts(listed), pages=st.integers(1, 5))
    def agree(any_of: Filter, sort: list[Sort], pages: int) -> None:
        expected = [told(listed, row) for row in selected(rows, any_of, sort)]
        size = len(expected) // pages + 1
        asked: dict[str, Any] = {"any_of": any_of, "sort": sort, "page_size": size}
        page = library.page(listed, **asked, with_total=True)
        assert page.rows == expected[:size]
        assert page.total == len(expected)
        assert bool(page.next_cursor) == (len(expected) > size)
        assert library.every(listed, **asked) == expected
        assert library.every(listed, by_number=True, **asked) == expected
        assert library.run(library.lists.count(listed, check_filter(listed, any_of))) == len(expected)

    agree()


@pytest.mark.parametrize("listed", Listed)
def test_each_field_alone_is_compared_and_sorted_as_the_reference_does(library: Library, listed: Listed) -> None:
    """Rows are given fixed times, so that no field depends on chance."""
    rows = library.shelf[listed]
    for name in names(listed):
        field = find_field(listed, name, "")
        values: list[Any] = [value for row in rows if (value := value_of(row, name)) is not None][:3]
        if field.kind is Kind.STATUS:
            values = [value.name for value in values]
        if field.kind is Kind.TEXTS:
            values = [text for texts in values for text in texts][:3]
        every = [Condition(name, operator, value) for operator in _OPERATORS[field.kind] for value in values]
        for condition in [*every, *(Condition(name, operator) for operator in _PRESENCE)]:
            found = library.page(listed, any_of=[[condition]], page_size=1000).rows
            assert found == [told(listed, row) for row in selected(rows, [[condition]], [])], condition
        if field.kind is not Kind.TEXTS:
            for descending in (False, True):
                sort = [Sort(name, descending)]
                found = library.every(listed, sort=sort, page_size=25)
                assert found == [told(listed, row) for row in selected(rows, [], sort)], sort


def test_only_the_fields_asked_for_are_told(library: Library) -> None:
    rows = library.shelf[Listed.TASKS]
    page = library.page(Listed.TASKS, fields=["id", "options.priority", "error", "id"], page_size=1000)
    assert page.rows == [{name: row[name] for name in ("id", "options", "error")} for row in rows]


def test_rows_that_come_and_go_shift_no_others(library: Library, database_url: str) -> None:
    """Between two pages a row before the place of the cursor goes, and one comes."""
    first = library.page(Listed.AGENTS, page_size=3)

    async def change() -> None:
        connection = await asyncpg.connect(database_url, server_settings={"search_path": "ripieno"})
        await connection.execute("delete from agents where agent_no in (2, 3)")
        await connection.execute(
            "insert into agents (agent_no, agent_id, name, slots, partitions, version, lease_until)"
            " overriding system value values (0, gen_random_uuid(), '', 1, '{}', '', now())"
        )
        await connection.close()

    library.run(change())
    second = library.page(Listed.AGENTS, page_size=3, cursor=first.next_cursor)
    assert [row["number"] for row in (*first.rows, *second.rows)] == [1, 2, 3, 4, 5, 6]


def test_a_cursor_belongs_to_its_query(library: Library) -> None:
    mine: dict[str, Any] = {
        "any_of": [[Condition("attempt", Operator.LESS, 3)]],
        "sort": [Sort("ended_at", descending=True)],
    }
    cursor = library.page(Listed.TASKS, **mine, page_size=2).next_cursor
    others: list[tuple[Listed, dict[str, Any]]] = [
        (Listed.TASKS, dict(mine, any_of=[[Condition("attempt", Operator.LESS, 4)]])),
        (Listed.TASKS, dict(mine, sort=[Sort("ended_at")])),
        (Listed.TASKS, dict(mine, sort=[])),
        (Listed.ATTEMPTS, {"any_of": [], "sort": []}),
    ]
    for listed, other in others:
        with pytest.raises(InvalidRequestError, match=r"^cursor: is not one of this query.*without a cursor"):
            library.page(listed, **other, cursor=cursor)
    for broken in ("x", cursor[:-1], cursor[1:], cursor + "A", "é", "A" * 50, "=", cursor.swapcase()):
        with pytest.raises(InvalidRequestError, match="is not one of this query"):
            library.page(Listed.TASKS, **mine, cursor=broken)
    # What may change: the size of the page, the fields, the total.
    assert library.page(Listed.TASKS, **mine, cursor=cursor, page_size=9, fields=["id"], with_total=True).rows


def test_a_cursor_says_nothing(library: Library) -> None:
    import base64

    cursor = library.page(Listed.TASKS, sort=[Sort("id")], page_size=1).next_cursor
    [row] = library.page(Listed.TASKS, sort=[Sort("id")], page_size=1, fields=["id"]).rows
    raw = base64.urlsafe_b64decode(cursor + "==")
    assert row["id"].encode() not in raw and b"[" not in raw[:1]


def test_whoever_asks_for_too_much_is_told_which_limit(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Condition("id", Operator.EQUAL, "x")
    with pytest.raises(LimitError, match=r"conditions_per_filter is 10,000, and this asks for 10,001"):
        library.page(Listed.TASKS, any_of=[[one]] * 10_001)
    with pytest.raises(LimitError, match=r"rows_per_page is 10,000, and this asks for 10,001"):
        library.page(Listed.TASKS, page_size=10_001)
    with pytest.raises(LimitError, match="sorts_per_query"):
        library.page(Listed.TASKS, sort=[Sort("id")] * 9)
    monkeypatch.setattr(lists, "_LARGEST_PAGE_BYTES", 2_000)
    with pytest.raises(LimitError, match="lower page_size, or name fewer fields"):
        library.page(Listed.TASKS)
    assert len(library.page(Listed.TASKS, page_size=2).rows) == 2


def test_ten_thousand_conditions_are_answered(library: Library) -> None:
    rows = library.shelf[Listed.TASKS]
    wanted = [row["id"] for row in rows[::2]]
    ids = [*wanted, *(f"none {number}" for number in range(10_000 - len(wanted)))]
    any_of = [[Condition("id", Operator.EQUAL, each)] for each in ids]
    assert [row["id"] for row in library.every(Listed.TASKS, any_of=any_of)] == wanted
    all_of = [[Condition("id", Operator.NOT_EQUAL, each) for each in ids]]
    assert [row["id"] for row in library.every(Listed.TASKS, any_of=all_of)] == [row["id"] for row in rows[1::2]]


def test_ten_thousand_different_conditions_keep_no_planner_busy(library: Library) -> None:
    """Their planning would take minutes, and the server does not look at the time-out meanwhile."""
    library.lists._timeout_s = 30
    none = [Condition("id", Operator.NOT_CONTAINS, f"none {number}") for number in range(10_000)]
    arms = [
        [Condition("id", Operator.ENDS_WITH, f"-{number}"), Condition("attempt", Operator.LESS, number)]
        for number in range(5_000)
    ]

    async def within(any_of: Filter) -> int:
        async with asyncio.timeout(40):
            return len((await library.lists.page(check_query(Query(Listed.TASKS, any_of)))).rows)

    assert library.run(within([none])) == len(library.shelf[Listed.TASKS])
    assert library.run(within(arms)) > 10


def test_long_rows_are_read_in_portions(library: Library, database_url: str) -> None:
    """Rows of a page come in several statements where their lists are long; all are there, in order."""

    async def lengthen() -> None:
        connection = await asyncpg.connect(database_url, server_settings={"search_path": "ripieno"})
        await connection.execute(
            "update tasks set expected_output_keys = array(select gen_random_uuid()::text from generate_series(1, 2000))"
            " where task_no <= 30"
        )
        await connection.close()

    library.run(lengthen())
    page = library.page(Listed.TASKS, page_size=35)
    assert [row["number"] for row in page.rows] == list(range(1, 36))
    assert len(page.rows[29]["expected_output_keys"]) == 2000


def test_a_query_that_takes_too_long_is_told_how_to_be_quicker(library: Library, database_url: str) -> None:
    async def slow() -> None:
        connection = await asyncpg.connect(database_url, server_settings={"search_path": "ripieno"})
        await connection.execute("drop view attempts")
        await connection.execute("create view attempts as select s.* from states s, pg_sleep(5)")
        await connection.close()

    library.run(slow())
    library.lists._timeout_s = 0.05
    with pytest.raises(
        LimitError, match=r"list_timeout is 0\.05 s.*narrow the filter.*filter on task_number or task_id"
    ):
        library.page(Listed.ATTEMPTS, fields=["worker"])
    assert library.page(Listed.TASKS).rows  # the session is usable


def test_an_empty_database_has_empty_lists(database_url: str) -> None:
    async def ask() -> None:
        async with Database.open(database_url) as database:
            for listed in Listed:
                page = await Lists(database).page(check_query(Query(listed, with_total=True)))
                assert page == PageOfRows([], "", 0), listed

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (Condition("statsu", Operator.EQUAL, "x"), r"^filter\.any_of\[0\]\.all_of\[0\]\.field: 'statsu' is not a field of tasks; did you mean 'status'\?"),
        (Condition("id", Operator.LESS, "x"), r"operator: LESS does not fit 'id', which is a text; use EQUAL"),
        (Condition("number", Operator.EQUAL, "5"), r"value: '5' does not fit 'number', which takes a number"),
        (Condition("number", Operator.EQUAL, True), r"value: True does not fit 'number'"),
        (Condition("status", Operator.EQUAL, "DONE"), r"value: 'DONE' is no status; there are SUBMITTED"),
        (Condition("options", Operator.IS_SET), r"field: 'options' is options of tasks; filter on one of them, options.KEY"),
        (Condition("options.", Operator.IS_SET), r"field: 'options.' names no option; write options.KEY"),
        (Condition("id", Operator.EQUAL), r"value: is not set; 'id' is compared with a text"),
        (Condition("id", Operator.IS_SET, "x"), r"value: 'x' is not compared by IS_SET; leave it out"),
        (Condition("id", Operator.EQUAL, "a\0"), r"value: 'a\\x00' has a character that no value may have"),
        (Condition("ended_at", Operator.LESS, datetime(2026, 1, 1)), r"has no time zone"),  # noqa: DTZ001
        (Condition("data_dependencies", Operator.EQUAL, "x"), r"EQUAL does not fit .* a list of texts; use CONTAINS"),
    ],
)  # fmt: skip
def test_a_condition_that_does_not_fit_is_told(condition: Condition, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        check_query(Query(Listed.TASKS, [[condition]]))


def test_other_parts_that_do_not_fit_are_told() -> None:
    with pytest.raises(InvalidRequestError, match=r"^sort\[0\]\.field: 'options' is options of tasks; sort by one"):
        check_query(Query(Listed.TASKS, sort=[Sort("options")]))
    with pytest.raises(InvalidRequestError, match=r"^sort\[1\]\.field: 'data_dependencies' .* no order"):
        check_query(Query(Listed.TASKS, sort=[Sort("id"), Sort("data_dependencies")]))
    with pytest.raises(InvalidRequestError, match=r"^fields\[0\]: 'ids' is not a field of tasks; did you mean 'id'"):
        check_query(Query(Listed.TASKS, fields=["ids"]))
    with pytest.raises(InvalidRequestError, match=r"^page: -1 is negative"):
        check_query(Query(Listed.TASKS, page=-1))


def test_what_is_left_of_a_deleted_session_is_not_told(library: Library, database_url: str) -> None:
    """Its row goes first, its tasks and results in steps."""

    async def delete() -> None:
        connection = await asyncpg.connect(database_url, server_settings={"search_path": "ripieno"})
        await connection.execute("delete from sessions where session_no = 1")
        await connection.close()

    gone = library.shelf[Listed.SESSIONS][0]["id"]
    library.run(delete())
    for listed in (Listed.TASKS, Listed.ATTEMPTS, Listed.RESULTS, Listed.OPTIONS):
        left = [told(listed, row) for row in library.shelf[listed] if row["session_id"] != gone]
        page = library.page(listed, page_size=1000, with_total=True)
        assert (page.rows, page.total) == (left, len(left)), listed
        assert (
            library.page(listed, any_of=[[Condition("session_id", Operator.EQUAL, gone)]], with_total=True).total == 0
        )
