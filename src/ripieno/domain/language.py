"""A small language for filters, sorts and columns of lists, for people who write them by hand.

::

    status=ERROR and options.priority>5 or id^=run-
    status in (ERROR, TIMEOUT) and ended_at>=-2h
    worker is unset or (error*='out of memory' and attempt!=0)

A condition is a field, an operator and a value. Operators: ``=`` and ``!=``; ``<``, ``<=``, ``>`` and ``>=`` of numbers, times
and durations; ``^=`` (starts with), ``$=`` (ends with), ``*=`` and ``!*=`` (contains, or does not) of texts, the last two
of lists as well; ``in (a, b)``; ``is set`` and ``is unset``. ``and`` binds more tightly than ``or``; parentheses group.

A value with blanks, commas or parentheses stands in quotes of either kind, in which a backslash takes the next character as
it is. A time is ISO 8601 (without a zone: local time), or how long ago it was, as in ``-2h``; a duration is a number of
seconds, or has a unit: ``250ms``, ``90s``, ``5m``, ``2h``, ``1d``.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ripieno.domain.catalogue import Field, Kind, Listed, find_field
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.queries import MOST_CONDITIONS, Condition, Filter, Operator, Sort, Value, check_filter

_SYMBOLS = {
    "=": Operator.EQUAL,
    "==": Operator.EQUAL,
    "!=": Operator.NOT_EQUAL,
    "<": Operator.LESS,
    "<=": Operator.LESS_OR_EQUAL,
    ">": Operator.GREATER,
    ">=": Operator.GREATER_OR_EQUAL,
    "^=": Operator.STARTS_WITH,
    "$=": Operator.ENDS_WITH,
    "*=": Operator.CONTAINS,
    "!*=": Operator.NOT_CONTAINS,
}
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<symbol>!\*=|==|!=|<=|>=|\^=|\$=|\*=|[=<>(),])"""
    r"""|(?P<word>(?:(?!!=|!\*=|\^=|\$=|\*=)[^\s=<>(),'"])+))""",
    re.DOTALL,
)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LENGTH = re.compile(r"(?P<count>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)?\Z")
#: Parentheses within parentheses.
_DEEPEST = 50

Arms = list[list[Condition]]


def parse_filter(listed: Listed, text: str, where: str = "") -> Filter:
    """Read a filter; a blank text selects everything. ``where`` is the field that has the text, for errors.

    Raises:
        InvalidRequestError: the text is no filter; the error names the place or the field, and the way out.
    """
    return _Reader(listed, text, where).whole() if text.strip() else []


def parse_sort(listed: Listed, text: str, where: str = "") -> Sequence[Sort]:
    """Read fields to sort by, with commas between them; one with a minus before it sorts from the last to the first.

    Raises:
        InvalidRequestError: a field is unknown.
    """
    if not text.strip():
        return []
    sorts = [Sort(name.strip().removeprefix("-"), name.strip().startswith("-")) for name in text.split(",")]
    for sort in sorts:
        find_field(listed, sort.field, where)
    return sorts


def parse_columns(listed: Listed, text: str, where: str = "") -> list[str]:
    """Read names of fields, with commas between them; raises the errors of ``parse_sort``."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        find_field(listed, name, where)
    return names


class _Reader:
    """Reads one filter, from left to right."""

    def __init__(self, listed: Listed, text: str, where: str) -> None:
        self._listed = listed
        self._where = where
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._wrong(at, "a quote is not closed" if text[at:].lstrip()[0] in "'\"" else "it means nothing")
            kind = str(found.lastgroup)
            self._tokens.append((kind, found[kind], found.start(kind)))
            at = found.end()
        self._next = 0
        self._depth = 0

    def whole(self) -> Filter:
        """Return the filter of the whole text."""
        arms = self._any_of()
        if self._next < len(self._tokens):
            raise self._wrong(self._tokens[self._next][2], "`and`, `or` or the end is missing before it")
        return arms

    def _any_of(self) -> Arms:
        arms = self._all_of()
        while self._takes_word("or"):
            arms = [*arms, *self._all_of()]
        return arms

    def _all_of(self) -> Arms:
        arms = self._one()
        while self._takes_word("and"):
            others = self._one()
            if len(arms) * len(others) > MOST_CONDITIONS:
                raise InvalidRequestError(
                    self._where, f"has more than {MOST_CONDITIONS:,} conditions; ask in several calls"
                )
            arms = [[*arm, *other] for arm in arms for other in others]
        return arms

    def _one(self) -> Arms:
        if self._takes_symbol("("):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self._wrong(self._place(), f"parentheses are nested more than {_DEEPEST} deep before it")
            arms = self._any_of()
            self._expect(")")
            self._depth -= 1
            return arms
        field = find_field(self._listed, self._name(), self._where)
        if self._takes_word("is"):
            unset = self._takes_word("unset") or (self._takes_word("not") and self._takes_word("set"))
            if not unset and not self._takes_word("set"):
                raise self._wrong(self._place(), "`is` is followed by `set` or `unset`")
            return [[self._checked(Condition(field.name, Operator.IS_UNSET if unset else Operator.IS_SET))]]
        operator = Operator.CONTAINS if field.kind is Kind.TEXTS else Operator.EQUAL
        if self._takes_word("in"):
            self._expect("(")
            arms = [[self._condition(field, operator)]]
            while self._takes_symbol(","):
                arms.append([self._condition(field, operator)])
            self._expect(")")
            return arms
        kind, symbol, at = self._peek()
        if kind != "symbol" or symbol not in _SYMBOLS:
            raise self._wrong(at, f"an operator is missing after {field.name}: one of {' '.join(_SYMBOLS)} in is")
        self._next += 1
        return [[self._condition(field, _SYMBOLS[symbol])]]

    def _condition(self, field: Field, operator: Operator) -> Condition:
        kind, text, at = self._peek()
        if kind == "symbol" or not kind:
            raise self._wrong(at, f"a value is missing for {field.name} (an empty text is '')")
        self._next += 1
        if kind == "quoted":
            text = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
        return self._checked(Condition(field.name, operator, _value(field, text, self._where)))

    def _checked(self, condition: Condition) -> Condition:
        try:
            check_filter(self._listed, [[condition]])
        except InvalidRequestError as error:
            raise InvalidRequestError(self._where, error.detail.partition(": ")[2]) from error
        return condition

    # ------------------------------------------------------------------ tokens

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("", "", len(self._text))

    def _place(self) -> int:
        return self._peek()[2]

    def _name(self) -> str:
        kind, text, at = self._peek()
        if kind == "quoted":
            text = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
        elif kind != "word":
            raise self._wrong(at, "the name of a field is missing")
        self._next += 1
        return text

    def _takes_word(self, word: str) -> bool:
        kind, text, _ = self._peek()
        if kind != "word" or text.lower() != word:
            return False
        self._next += 1
        return True

    def _takes_symbol(self, symbol: str) -> bool:
        if self._peek()[:2] != ("symbol", symbol):
            return False
        self._next += 1
        return True

    def _expect(self, symbol: str) -> None:
        if not self._takes_symbol(symbol):
            raise self._wrong(self._place(), f"`{symbol}` is missing before it")

    def _wrong(self, at: int, what: str) -> InvalidRequestError:
        rest = self._text[at:].strip()
        here = f"at {rest[:40]!r}" if rest else "at the end"
        return InvalidRequestError(self._where, f"{here}: {what}")


def _value(field: Field, text: str, where: str) -> Value:
    """Read a value of a field's kind.

    Raises:
        InvalidRequestError: it is none.
    """
    if field.kind is Kind.NUMBER:
        if not re.fullmatch(r"[+-]?\d{1,19}", text):
            raise InvalidRequestError(where, f"{text!r} is no whole number, which {field.name} is compared with")
        return int(text)
    if field.kind is Kind.BOOLEAN:
        if text.lower() not in ("true", "false"):
            raise InvalidRequestError(where, f"{text!r} is neither true nor false, which {field.name} is compared with")
        return text.lower() == "true"
    if field.kind is Kind.DURATION:
        return _length(field, text, where)
    if field.kind is Kind.TIME:
        return (
            datetime.now(UTC) - _length(field, text[1:], where) if text.startswith("-") else _time(field, text, where)
        )
    return text.upper() if field.kind is Kind.STATUS else text


def _length(field: Field, text: str, where: str) -> timedelta:
    if found := _LENGTH.match(text):
        try:
            return timedelta(seconds=float(found["count"]) * _UNITS[found["unit"] or "s"])
        except OverflowError:
            pass
    raise InvalidRequestError(where, f"{text!r} is no length of time for {field.name}; write 250ms, 90s, 5m, 2h or 1d")


def _time(field: Field, text: str, where: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(
            where, f"{text!r} is no time for {field.name}; write 2026-01-31T12:00:00Z, or an age such as -2h"
        ) from error
