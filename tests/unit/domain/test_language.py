"""The language of filters and sorts: what it means, and what is said about what means nothing."""

import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.language import parse_columns, parse_filter, parse_sort
from ripieno.domain.queries import Condition, Operator, Sort
from ripieno.wire.queries import filter_from_wire, filter_to_wire

_IS = Operator


def tasks(text: str) -> list[list[tuple[Any, ...]]]:
    return [[(each.field, each.operator, each.value) for each in all_of] for all_of in parse_filter(Listed.TASKS, text)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", []),
        ("  ", []),
        ("id=a", [[("id", _IS.EQUAL, "a")]]),
        ("id == 'a b'", [[("id", _IS.EQUAL, "a b")]]),
        ("id^=run-", [[("id", _IS.STARTS_WITH, "run-")]]),
        ("id$=-1 and id*=x and id!*=y", [[("id", _IS.ENDS_WITH, "-1"), ("id", _IS.CONTAINS, "x"), ("id", _IS.NOT_CONTAINS, "y")]]),
        (
            "status=error and options.priority>5 or id^=run-",
            [[("status", _IS.EQUAL, "ERROR"), ("options.priority", _IS.GREATER, 5)], [("id", _IS.STARTS_WITH, "run-")]],
        ),
        (
            "status in (ERROR, timeout) and attempt!=0",
            [
                [("status", _IS.EQUAL, "ERROR"), ("attempt", _IS.NOT_EQUAL, 0)],
                [("status", _IS.EQUAL, "TIMEOUT"), ("attempt", _IS.NOT_EQUAL, 0)],
            ],
        ),
        ("worker is unset AND agent IS set", [[("worker", _IS.IS_UNSET, None), ("agent", _IS.IS_SET, None)]]),
        ("worker is not set", [[("worker", _IS.IS_UNSET, None)]]),
        ("data_dependencies*=k", [[("data_dependencies", _IS.CONTAINS, "k")]]),
        ("data_dependencies in (k)", [[("data_dependencies", _IS.CONTAINS, "k")]]),
        (
            "(id=a or id=b) and (attempt>=1 or attempt<=-1)",
            [
                [("id", _IS.EQUAL, a), ("attempt", o, n)]
                for a in "ab"
                for o, n in ((_IS.GREATER_OR_EQUAL, 1), (_IS.LESS_OR_EQUAL, -1))
            ],
        ),
        ("id=or", [[("id", _IS.EQUAL, "or")]]),
        ("'options.a b'=\"it's \\\"x\\\\\"", [[("options.a b", _IS.EQUAL, 'it\'s "x\\')]]),
        ("duration>1.5s", [[("duration", _IS.GREATER, timedelta(seconds=1.5))]]),
        ("duration<250ms", [[("duration", _IS.LESS, timedelta(milliseconds=250))]]),
        ("options.max_duration=2h", [[("options.max_duration", _IS.EQUAL, timedelta(hours=2))]]),
        ("ended_at<2026-01-31T12:00:00Z", [[("ended_at", _IS.LESS, datetime(2026, 1, 31, 12, tzinfo=UTC))]]),
        ("ended_at<2026-01-31T12:00:00+01:00", [[("ended_at", _IS.LESS, datetime(2026, 1, 31, 11, tzinfo=UTC))]]),
    ],
)  # fmt: skip
def test_a_filter_means(text: str, meant: object) -> None:
    assert tasks(text) == meant


def test_an_age_is_a_time() -> None:
    [[(_, _, at)]] = tasks("submitted_at>=-2h")
    assert timedelta(0) <= datetime.now(UTC) - timedelta(hours=2) - at < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("statsu=ERROR", "'statsu' is not a field of tasks; did you mean 'status'?"),
        ("status=DONE", "'DONE' is no status; there are SUBMITTED,"),
        ("status", "at the end: an operator is missing after status: one of ="),
        ("status=", "at the end: a value is missing for status"),
        ("id='a", 'at "\'a": a quote is not closed'),
        ("id=a id=b", "at 'id=b': `and`, `or` or the end is missing before it"),
        ("(id=a", "at the end: `)` is missing before it"),
        ("id in (a b)", "at 'b)': `)` is missing before it"),
        ("id is", "at the end: `is` is followed by `set` or `unset`"),
        ("=a", "at '=a': the name of a field is missing"),
        ("id=a and", "at the end: the name of a field is missing"),
        ("id<a", "LESS does not fit 'id', which is a text; use EQUAL"),
        ("attempt=x", "'x' is no whole number, which attempt is compared with"),
        ("attempt=99999999999999999999", "'99999999999999999999' is no whole number"),
        ("duration=5x", "'5x' is no length of time for duration; write 250ms,"),
        ("ended_at=yesterday", "'yesterday' is no time for ended_at; write 2026"),
        ("(" * 60 + "id=a", "parentheses are nested more than 50 deep"),
        ("options=a", "'options' is options of tasks; filter on one of them"),
        ("(id=a or id=b)" + " and (id=a or id=b)" * 20, "has more than 10,000 conditions"),
    ],
)
def test_what_is_no_filter_is_told(text: str, said: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_filter(Listed.TASKS, text)
    assert said in refused.value.detail


@given(st.text())
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with suppress(InvalidRequestError):
        parse_filter(Listed.TASKS, text)


@given(st.lists(st.lists(st.sampled_from([
    Condition("id", Operator.EQUAL, "a"), Condition("attempt", Operator.LESS, -5), Condition("worker", Operator.IS_SET),
    Condition("duration", Operator.GREATER, timedelta(microseconds=-1_500_000)),
    Condition("ended_at", Operator.NOT_EQUAL, datetime(1969, 1, 1, 0, 0, 0, 7, tzinfo=UTC)),
]))))  # fmt: skip
def test_a_filter_travels_unchanged(any_of: list[list[Condition]]) -> None:
    assert filter_from_wire(filter_to_wire(any_of)) == any_of


def test_sorts_and_columns() -> None:
    assert parse_sort(Listed.TASKS, "-ended_at, id") == [Sort("ended_at", descending=True), Sort("id")]
    assert parse_columns(Listed.TASKS, "id,options.color") == ["id", "options.color"]
    for parse in (parse_sort, parse_columns):
        with pytest.raises(InvalidRequestError, match="'ids' is not a field of tasks; did you mean 'id'"):
            parse(Listed.TASKS, "ids")


def test_the_language_needs_no_server() -> None:
    """The SDKs' installation has the command line, and no asyncpg."""
    code = "import sys; sys.modules['asyncpg'] = None; import ripieno.cli.commands.task, ripieno.cli.commands.partition"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
