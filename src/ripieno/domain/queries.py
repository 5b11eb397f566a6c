"""Questions to lists, as data: which rows, in which order, which of their fields, which page.

A filter is an OR of ANDs of conditions on fields of the catalogue (``domain.catalogue``). A field without a value
meets NOT_EQUAL, NOT_CONTAINS and IS_UNSET, and nothing else, so that each of these is the exact complement of EQUAL,
CONTAINS and IS_SET. It sorts before all values in ascending order, and after them in descending order. A list without
elements has no value.

Rows that are alike in all fields of the sort are in the order of their numbers (results: of session and key), or its
reverse if the last sort is descending.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from ripieno.domain.catalogue import Field, Kind, Listed, fields_of, find_field
from ripieno.domain.errors import InvalidRequestError, LimitError
from ripieno.domain.texts import is_encodable

MOST_CONDITIONS = 10_000
MOST_SORTS = 8
MOST_ROWS = 10_000
DEFAULT_ROWS = 100
#: Bounds of a number in a condition: the protocol's field has 64 bits.
_LEAST, _MOST = -(2**63), 2**63 - 1

Value = str | int | bool | datetime | timedelta


class Operator(Enum):
    """How a condition compares a field with its value; the value is how errors name it."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    CONTAINS = "contains"
    NOT_CONTAINS = "does not contain"
    STARTS_WITH = "starts with"
    ENDS_WITH = "ends with"
    IS_SET = "is set"
    IS_UNSET = "is unset"


_ALIKE = frozenset({Operator.EQUAL, Operator.NOT_EQUAL})
_ORDER = frozenset({Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL})
_PARTS = frozenset({Operator.CONTAINS, Operator.NOT_CONTAINS})
_PRESENCE = frozenset({Operator.IS_SET, Operator.IS_UNSET})

#: The operators of each kind of field, beside IS_SET and IS_UNSET, which all have.
_OPERATORS = {
    Kind.TEXT: _ALIKE | _PARTS | {Operator.STARTS_WITH, Operator.ENDS_WITH},
    Kind.NUMBER: _ALIKE | _ORDER,
    Kind.TIME: _ALIKE | _ORDER,
    Kind.DURATION: _ALIKE | _ORDER,
    Kind.STATUS: _ALIKE,
    Kind.BOOLEAN: _ALIKE,
    Kind.TEXTS: _PARTS,
    Kind.OPTIONS: frozenset[Operator](),
}
#: The type of a condition's value for each kind of field, and its name.
_TYPES: dict[Kind, tuple[type, str]] = {
    Kind.TEXT: (str, "a text"),
    Kind.NUMBER: (int, "a number"),
    Kind.TIME: (datetime, "a time"),
    Kind.DURATION: (timedelta, "a duration"),
    Kind.STATUS: (str, "the name of a status, a text"),
    Kind.BOOLEAN: (bool, "a boolean"),
    Kind.TEXTS: (str, "one element, a text"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """``field operator value``, as it was asked; the value of IS_SET and IS_UNSET is None."""

    field: str
    operator: Operator
    value: Value | None = None


Filter = Sequence[Sequence[Condition]]


@dataclass(frozen=True, slots=True)
class Sort:
    """One field to sort by."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A question to a list, as it was asked.

    Attributes:
        listed: The list.
        any_of: An OR of ANDs; empty for everything.
        sort: Fields to sort by, the first one first; none: by number.
        fields: Fields to return; none: all.
        page_size: Rows of the page; 0 for the default, negative for no rows (the total alone).
        cursor: Where the page begins, from an earlier reply; empty for the first page.
        page: Number of the page from 0, in place of a cursor.
        with_total: Whether to count all rows that match.
    """

    listed: Listed
    any_of: Filter = ()
    sort: Sequence[Sort] = ()
    fields: Sequence[str] = ()
    page_size: int = 0
    cursor: str = ""
    page: int = 0
    with_total: bool = False


@dataclass(frozen=True, slots=True)
class Test:
    """A condition that was checked: its field from the catalogue, and a value that fits it (a status as a number)."""

    field: Field
    operator: Operator
    value: Value | None


Tests = tuple[tuple[Test, ...], ...]


@dataclass(frozen=True, slots=True)
class CheckedQuery:
    """A query that can be answered; attributes as in ``Query``, with names looked up and defaults filled in."""

    listed: Listed
    any_of: Tests
    sort: tuple[tuple[Field, bool], ...]
    fields: tuple[Field, ...]
    page_size: int
    cursor: str
    page: int
    with_total: bool


def check_query(query: Query) -> CheckedQuery:
    """Check a query.

    Raises:
        InvalidRequestError: a field, an operator or a value does not fit; the text names it and the way out.
        LimitError: the query asks for more conditions, sorts or rows than one call may.
    """
    if query.page < 0:
        raise InvalidRequestError("page", f"{query.page} is negative; the first page has number 0")
    if query.page_size > MOST_ROWS:
        raise LimitError(
            f"limit rows_per_page is {MOST_ROWS:,}, and this asks for {query.page_size:,} rows in one page;"
            " ask for several pages, each with the cursor of the one before",
            "rows_per_page",
        )
    if len(query.sort) > MOST_SORTS:
        raise LimitError(
            f"limit sorts_per_query is {MOST_SORTS}, and this asks for {len(query.sort):,}; sort by fewer fields",
            "sorts_per_query",
        )
    return CheckedQuery(
        query.listed,
        check_filter(query.listed, query.any_of, "filter."),
        tuple(_sort(query.listed, sort, f"sort[{place}].field") for place, sort in enumerate(query.sort)),
        _wanted(query.listed, query.fields),
        DEFAULT_ROWS if query.page_size == 0 else max(query.page_size, 0),
        query.cursor,
        query.page,
        query.with_total or query.page_size < 0,
    )


def check_filter(listed: Listed, any_of: Filter, where: str = "") -> Tests:
    """Check a filter; ``where`` is the prefix of field names in errors. Raises the errors of ``check_query``."""
    conditions = sum(len(all_of) for all_of in any_of)
    if max(conditions, len(any_of)) > MOST_CONDITIONS:
        raise LimitError(
            f"limit conditions_per_filter is {MOST_CONDITIONS:,}, and this asks for {max(conditions, len(any_of)):,};"
            " ask in several calls",
            "conditions_per_filter",
        )
    return tuple(
        tuple(
            _test(listed, condition, f"{where}any_of[{arm}].all_of[{place}]") for place, condition in enumerate(all_of)
        )
        for arm, all_of in enumerate(any_of)
    )


def _sort(listed: Listed, sort: Sort, where: str) -> tuple[Field, bool]:
    field = find_field(listed, sort.field, where)
    if field.kind in (Kind.TEXTS, Kind.OPTIONS):
        what = (
            f"sort by one of them, {field.name}.priority for instance"
            if field.kind is Kind.OPTIONS
            else "it has no order"
        )
        raise InvalidRequestError(where, f"{field.name!r} is {field.kind.value}; {what}")
    return field, sort.descending


def _wanted(listed: Listed, names: Sequence[str]) -> tuple[Field, ...]:
    """Return the fields to return; options are returned as a whole."""
    known = fields_of(listed)
    if not names:
        return tuple(known.values())
    if len(names) > MOST_CONDITIONS:
        raise InvalidRequestError("fields", f"names {len(names):,}, and a row has {len(known)}; name each once")
    found = [find_field(listed, name, f"fields[{place}]") for place, name in enumerate(names)]
    return tuple({field.of or field.name: known[field.of or field.name] for field in found}.values())


def _test(listed: Listed, condition: Condition, where: str) -> Test:
    field = find_field(listed, condition.field, f"{where}.field")
    operator, value = condition.operator, condition.value
    if field.kind is Kind.OPTIONS:
        raise InvalidRequestError(
            f"{where}.field", f"{field.name!r} is {field.kind.value}; filter on one of them, {field.name}.KEY"
        )
    if operator in _PRESENCE:
        if value is not None:
            raise InvalidRequestError(
                f"{where}.value", f"{_shown(value)} is not compared by {operator.name}; leave it out"
            )
        return Test(field, operator, None)
    if operator not in _OPERATORS[field.kind]:
        fitting = ", ".join(each.name for each in Operator if each in _OPERATORS[field.kind] | _PRESENCE)
        raise InvalidRequestError(
            f"{where}.operator",
            f"{operator.name} does not fit {field.name!r}, which is {field.kind.value}; use {fitting}",
        )
    wanted, name = _TYPES[field.kind]
    if value is None:
        raise InvalidRequestError(f"{where}.value", f"is not set; {field.name!r} is compared with {name}")
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise InvalidRequestError(f"{where}.value", f"{_shown(value)} does not fit {field.name!r}, which takes {name}")
    if isinstance(value, str) and ("\0" in value or not is_encodable(value)):
        raise InvalidRequestError(f"{where}.value", f"{_shown(value)} has a character that no value may have")
    if wanted is int and isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise InvalidRequestError(f"{where}.value", f"{_shown(value)} is out of range; it has 64 bits")
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidRequestError(f"{where}.value", f"{_shown(value)} has no time zone; give one, UTC for instance")
    if field.kind is Kind.STATUS:
        return Test(field, operator, _status(field, str(value), f"{where}.value"))
    return Test(field, operator, value)


def _status(field: Field, name: str, where: str) -> int:
    for status in field.statuses:
        if status.name == name:
            return int(status)
    raise InvalidRequestError(
        where, f"{name[:100]!r} is no {field.name}; there are {', '.join(status.name for status in field.statuses)}"
    )


def _shown(value: Value) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
