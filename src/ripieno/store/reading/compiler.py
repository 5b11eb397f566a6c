"""The compiler of queries: from a checked query to statements and their parameters.

No text of a caller becomes part of a statement: values, keys of options and positions of cursors are parameters. Statuses are
written as numbers, since an index that holds only some of them is used where the statement itself says which.
A statement joins those tables alone that its conditions and its order need; what the rows tell beside that is read
afterwards, of the rows of the page alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ripieno.domain.catalogue import Field, Kind
from ripieno.domain.queries import CheckedQuery, Operator
from ripieno.store.reading.columns import PARAMETER_TYPES, SOURCES, Source
from ripieno.store.reading.terms import Arm, Term, shared, simplified

_COMPARED = {
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
}
_LAST_CHARACTER, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)

#: Conditions of a statement that the planner may look into. Its time grows with their square, and it does not look at the
#: clock meanwhile (measured: 80 s for 10,000 conditions, whatever the time-out).
_MOST_PLANNED = 64

#: Bytes of long values, as they are stored, in one statement that reads what the rows of a page tell.
_PORTION_BYTES = 256 * 1024
#: What a row counts beside its long values.
_ROW_BYTES = 200


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and its parameters."""

    text: str
    parameters: Sequence[Any]


@dataclass(frozen=True, slots=True)
class _Order:
    """One expression of the order of a list."""

    expression: str
    type: str
    descending: bool
    optional: bool

    def __str__(self) -> str:
        ends = (" desc nulls last" if self.descending else " asc nulls first") if self.optional else ""
        return f"{self.expression}{ends or (' desc' if self.descending else '')}"


class Compiler:
    """Makes the statements of one query.

    Attributes:
        arms: The filter, simplified; without arms nothing matches, and no statement is needed.
    """

    def __init__(self, query: CheckedQuery) -> None:
        self._query = query
        self._source: Source = SOURCES[query.listed]
        self._parameters: list[Any] = []
        self._needs: set[str] = set()
        self.arms = simplified(query.any_of)

    # ------------------------------------------------------------------ statements

    def page(self, after: Sequence[Any] | None) -> Statement:
        """Return the statement that finds the rows of the page, and one more if there is one.

        Each of its rows is a position: the values that the rows are sorted by, then the row's key.

        Args:
            after: Position behind which the page begins; None for the number of the page that the query names.
        """
        self._begin()
        order = self._order()
        conditions = list(self._conditions())
        if after is not None:
            conditions += self._behind(order, after)
        size = self._query.page_size
        skipped = 0 if after is not None else self._query.page * size
        text = (
            f"select {', '.join(each.expression for each in order)} from {self._tables()} {_where(conditions)}"
            f" order by {', '.join(map(str, order))}"
            f" limit {self._parameter(size + 1, 'bigint')} offset {self._parameter(skipped, 'bigint')}"
        )
        return Statement(text, self._parameters)

    def total(self) -> Statement:
        """Return the statement that counts all rows that match."""
        self._begin()
        conditions = list(self._conditions())
        return Statement(f"select count(*) from {self._tables()} {_where(conditions)}", self._parameters)

    def details(self, keys: Sequence[Sequence[Any]]) -> Statement:
        """Return the statement that reads the fields of rows by their keys, in the order of the keys.

        Its rows have the fields by name. Where their long values are many bytes together, it returns fewer rows, but
        always the first one.
        """
        self._begin()
        columns, weights, fields = [], [], []
        for field in self._query.fields:
            column, _ = self._source.column(field)
            self._needs.update(column.needs)
            fields.append(field.name)
            if field.kind is Kind.OPTIONS:
                alias = self._source.options
                columns += [f"{alias}.{name} as {field.name}_{name}" for name in _OF_OPTIONS]
                weights.append(f"pg_column_size({alias}.options)")
            else:
                columns.append(f"{column.expression} as {field.name}")
                if column.may_be_long:
                    weights.append(f"coalesce(pg_column_size({column.expression}), 0)")
        given = [
            f"{self._parameter([key[place] for key in keys], f'{type_}[]')}"
            for place, (_, type_) in enumerate(self._source.key)
        ]
        names = [f"k{place}" for place in range(len(given))]
        found = [f"{key} = k.{name}" for (key, _), name in zip(self._source.key, names, strict=True)]
        weight = " + ".join([str(_ROW_BYTES), *weights])
        text = (
            f"select * from (select k.place, {''.join(f'{column}, ' for column in columns)}"
            f"sum({weight}) over (order by k.place) - ({weight}) as bytes_before"
            f" from unnest({', '.join(given)}) with ordinality as k ({', '.join(names)}, place)"
            f" cross join {self._tables()} {_where([*found, *self._only()])}) as found"
            f" where found.bytes_before <= {_PORTION_BYTES} order by found.place"
        )
        return Statement(text, self._parameters)

    def _begin(self) -> None:
        self._parameters, self._needs = [], set()

    # ------------------------------------------------------------------ tables and order

    def _tables(self) -> str:
        joins = self._source.joins
        needed = set[str]()
        ahead = list(self._needs)
        while ahead:
            if (alias := ahead.pop()) not in needed:
                needed.add(alias)
                ahead += joins[alias][1]
        return " ".join([self._source.table, *(join for alias, (join, _) in joins.items() if alias in needed)])

    def _order(self) -> list[_Order]:
        order = []
        for field, descending in self._query.sort:
            expression = self._expression(field)
            if field.kind is Kind.TEXT and not self._source.column(field)[0].by_bytes:
                expression = f'({expression}) collate "C"'
            order.append(_Order(expression, PARAMETER_TYPES[field.kind], descending, field.optional))
        backwards = bool(order) and order[-1].descending
        order += [_Order(key, type_, backwards, False) for key, type_ in self._source.key]
        # What is ordered by an expression already is not ordered by it again: an index would not be recognised.
        once: dict[str, _Order] = {}
        for each in order:
            once.setdefault(each.expression, each)
        return list(once.values())

    def keys_of(self, positions: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Return the keys of the rows that have these positions."""
        self._begin()
        expressions = [each.expression for each in self._order()]
        places = [expressions.index(key) for key, _ in self._source.key]
        return [[position[place] for place in places] for position in positions]

    def _behind(self, order: Sequence[_Order], after: Sequence[Any]) -> Iterator[str]:
        """Yield conditions that rows behind a position meet. A row without a value is the least of all."""
        values = [
            "null" if value is None else self._parameter(value, each.type)
            for each, value in zip(order, after, strict=True)
        ]
        alike = len({each.descending for each in order}) == 1 and not any(each.optional for each in order)
        if alike:  # one comparison of rows, which an index understands
            rows = ", ".join(each.expression for each in order)
            yield f"({rows}) {'<' if order[0].descending else '>'} ({', '.join(values)})"
            if len(order) > 1:  # the first one alone, for an index that knows no other
                yield f"{order[0].expression} {'<=' if order[0].descending else '>='} {values[0]}"
            return
        ways = []
        equal: list[str] = []
        for each, value in zip(order, values, strict=True):
            if (beyond := _beyond(each, value)) is not None:
                ways.append(" and ".join([*equal, beyond]))
            equal.append(f"{each.expression} {'is' if value == 'null' else '='} {value}")
        yield f"({' or '.join(f'({way})' for way in ways)})"

    # ------------------------------------------------------------------ conditions

    def _only(self) -> list[str]:
        return [self._source.only] if self._source.only else []

    def _conditions(self) -> Iterator[str]:
        yield from self._only()
        if not self.arms:
            yield "false"
            return
        common = sorted(shared(self.arms), key=lambda term: term.operator is not Operator.EQUAL)
        planned = common[:_MOST_PLANNED]
        yield from self._terms(planned)
        if unplanned := common[_MOST_PLANNED:]:
            yield _opaque(" and ".join(self._terms(unplanned)))
        if "s" in self._source.joins and not any(self._names_sessions(term) for term in common):
            self._needs.add("s")  # rows of a deleted session may be there for a while, and are not told
        told = frozenset(common)
        rest = [tuple(term for term in arm if term not in told) for arm in self.arms]
        if all(rest):  # an arm without further conditions selects all that meets the common ones
            ways = " or ".join(self._arm(arm) for arm in rest)
            yield f"({ways})" if sum(map(len, rest)) <= _MOST_PLANNED else _opaque(ways)

    def _arm(self, arm: Arm) -> str:
        return f"({' and '.join(self._terms(arm))})"

    def _terms(self, terms: Iterable[Term]) -> Iterator[str]:
        for term in terms:
            yield self._term(term)

    def _term(self, term: Term) -> str:
        if self._names_sessions(term):
            return self._in_sessions(term, self._source.column(term.field)[0].session_no)
        expression = self._expression(term.field)
        if term.operator is Operator.EQUAL:
            return self._equal(term, expression)
        if term.operator in (Operator.IS_SET, Operator.IS_UNSET):
            return _presence(term, expression)
        if term.field.kind is Kind.TEXTS:
            has = f"{self._value(term)} = any({expression})"
            return has if term.operator is Operator.CONTAINS else f"not ({has})"
        if term.operator is Operator.NOT_EQUAL:
            return self._unequal(term, expression)
        if term.operator is Operator.CONTAINS:
            return f"strpos({expression}, {self._value(term)}) > 0"
        if term.operator is Operator.NOT_CONTAINS:
            return f"coalesce(strpos({expression}, {self._value(term)}), 0) = 0"
        if term.operator is Operator.STARTS_WITH:
            return self._starts(term, expression)
        if term.operator is Operator.ENDS_WITH:
            value = self._value(term)
            return f"right({expression}, length({value})) = {value}"
        return f"{expression} {_COMPARED[term.operator]} {self._value(term)}"

    def _names_sessions(self, term: Term) -> bool:
        return term.operator is Operator.EQUAL and bool(self._source.column(term.field)[0].session_no)

    def _in_sessions(self, term: Term, session_no: str) -> str:
        """Return the condition that a row is of one of the sessions, by their numbers: their table is not joined."""
        if len(term.values) == 1:
            return f"{session_no} = (select session_no from sessions where id = {self._value(term)})"
        ids = self._parameter(list(term.values), "text[]")
        return f"{session_no} = any(array(select session_no from sessions where id = any({ids})))"

    def _equal(self, term: Term, expression: str) -> str:
        if term.field.kind is Kind.STATUS:
            return self._among(expression, {int(value) for value in term.values if isinstance(value, int)})
        if len(term.values) == 1:
            return f"{expression} = {self._value(term)}"
        return f"{expression} = any({self._values(term)})"

    def _unequal(self, term: Term, expression: str) -> str:
        if len(term.values) == 1:
            return f"{expression} {'is distinct from' if term.field.optional else '<>'} {self._value(term)}"
        differs = f"{expression} <> all({self._values(term)})"
        return f"({differs} or {expression} is null)" if term.field.optional else differs

    def _among(self, expression: str, statuses: set[int]) -> str:
        """Return the condition that a status is among some, so that partial indexes are used where they hold all."""
        parts = [(held & statuses, also) for held, also in self._source.partial if held & statuses]
        if not statuses <= frozenset().union(*(held for held, _ in parts)):
            parts = [(frozenset(statuses), "")]
        named = [
            f"{expression} in ({', '.join(map(str, sorted(held)))})" + (f" and {also}" if also else "")
            for held, also in parts
        ]
        return named[0] if len(named) == 1 else f"({' or '.join(f'({each})' for each in named)})"

    def _starts(self, term: Term, expression: str) -> str:
        column, _ = self._source.column(term.field)
        prefix = str(term.values[0])
        behind = _behind_prefix(prefix)
        if not column.by_bytes or not prefix or behind is None:
            return f"starts_with({expression}, {self._value(term)})"
        # Where texts compare by bytes this is the same, and an index understands it.
        return f"({expression} >= {self._value(term)} and {expression} < {self._parameter(behind, 'text')})"

    # ------------------------------------------------------------------ parts

    def _expression(self, field: Field) -> str:
        column, key = self._source.column(field)
        self._needs.update(column.needs)
        return column.expression if key is None else column.expression.format(key=self._parameter(key))

    def _value(self, term: Term) -> str:
        return self._parameter(_sent(term.values[0]), PARAMETER_TYPES[term.field.kind])

    def _values(self, term: Term) -> str:
        return self._parameter([_sent(value) for value in term.values], f"{PARAMETER_TYPES[term.field.kind]}[]")

    def _parameter(self, value: Any, type_: str = "") -> str:
        self._parameters.append(value)
        return f"${len(self._parameters)}" + (f"::{type_}" if type_ else "")


_OF_OPTIONS = ("max_duration_us", "max_retries", "priority", "options")


def _opaque(condition: str) -> str:
    """Return a condition in a form that the planner takes as a whole."""
    return f"case when {condition} then true else false end"


def _sent(value: Any) -> Any:
    return value // timedelta(microseconds=1) if isinstance(value, timedelta) else value


def _presence(term: Term, expression: str) -> str:
    is_set = term.operator is Operator.IS_SET
    if term.field.kind is Kind.TEXTS:
        return f"cardinality({expression}) {'>' if is_set else '='} 0"
    if not term.field.optional:
        return "true" if is_set else "false"
    return f"{expression} is {'not ' if is_set else ''}null"


def _beyond(order: _Order, value: str) -> str | None:
    """Return the condition that a row's value is behind a given one, which may be null; None if nothing is."""
    if order.descending:
        if value == "null":
            return None
        less = f"{order.expression} < {value}"
        return f"({less} or {order.expression} is null)" if order.optional else less
    return f"{order.expression} is not null" if value == "null" else f"{order.expression} > {value}"


def _behind_prefix(prefix: str) -> str | None:
    """Return the least text behind all texts that begin with a prefix, by code points; None if there is none."""
    while prefix and ord(prefix[-1]) == _LAST_CHARACTER:
        prefix = prefix[:-1]
    if not prefix:
        return None
    following = ord(prefix[-1]) + 1
    if _SURROGATES[0] <= following <= _SURROGATES[1]:
        following = _SURROGATES[1] + 1
    return prefix[:-1] + chr(following)


def _where(conditions: Sequence[str]) -> str:
    return f"where {' and '.join(conditions)}" if conditions else ""
