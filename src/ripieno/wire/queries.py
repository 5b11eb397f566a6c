"""Decoding of queries to lists, and encoding of their rows.

The store knows times to the microsecond, messages to the nanosecond. A bound between two microseconds is moved so that
it selects the same; equality with such a time is refused.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.options import TaskOptions
from ripieno.domain.queries import Condition, Filter, Operator, Query, Sort, Value
from ripieno.wire.options import options_to_wire
from ripieno.wire.protos.v1 import query_pb2

MessageT = TypeVar("MessageT", bound=Message)

_OPERATORS: Mapping[int, Operator] = {
    number: Operator[name] for name, number in query_pb2.Operator.items() if name in Operator.__members__
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Seconds of the years 1 to 9999, and of the longest duration, both as protobuf has them.
_FIRST_S, _LAST_S, _LONGEST_S = -62_135_596_800, 253_402_300_799, 315_576_000_000
_NANOS = 1_000_000_000
#: Operators for which a bound between two microseconds becomes the later one; for the others the earlier one.
_ROUNDED_UP = frozenset({Operator.LESS, Operator.GREATER_OR_EQUAL})


def query_from_wire(listed: Listed, message: query_pb2.Query) -> Query:
    """Decode a query.

    Raises:
        InvalidRequestError: a part of it means nothing; the text names the field.
    """
    return Query(
        listed,
        filter_from_wire(message.filter, "filter."),
        [Sort(sort.field, sort.descending) for sort in message.sort],
        list(message.fields),
        message.page_size,
        message.cursor,
        message.page,
        message.with_total,
    )


def filter_from_wire(message: query_pb2.Filter, where: str = "") -> Filter:
    """Decode a filter; ``where`` is the prefix of field names in errors, which are as for ``query_from_wire``."""
    return [
        [
            _condition(condition, f"{where}any_of[{arm}].all_of[{place}]")
            for place, condition in enumerate(conjunction.all_of)
        ]
        for arm, conjunction in enumerate(message.any_of)
    ]


def _condition(message: query_pb2.Condition, where: str) -> Condition:
    operator = _OPERATORS.get(message.operator)
    if operator is None:
        what = "is not set" if message.operator == query_pb2.OPERATOR_UNSPECIFIED else f"{message.operator} is unknown"
        raise InvalidRequestError(f"{where}.operator", f"{what}; name one of {', '.join(Operator.__members__)}")
    return Condition(message.field, operator, _value(message, operator, f"{where}.value"))


def _value(message: query_pb2.Condition, operator: Operator, where: str) -> Value | None:
    kind = message.WhichOneof("value")
    if kind is None:
        return None
    if kind == "time":
        seconds, nanos = message.time.seconds, message.time.nanos
        if not (_FIRST_S <= seconds <= _LAST_S and 0 <= nanos < _NANOS):
            raise InvalidRequestError(where, f"{seconds} s and {nanos} ns are no time of the years 1 to 9999")
        try:
            return _EPOCH + _microseconds(seconds, nanos, operator, where)
        except OverflowError:  # rounded up at the end of the last year
            return datetime.max.replace(tzinfo=UTC)
    if kind == "duration":
        seconds, nanos = message.duration.seconds, message.duration.nanos
        if not (abs(seconds) <= _LONGEST_S and abs(nanos) < _NANOS and seconds * nanos >= 0):
            raise InvalidRequestError(where, f"{seconds} s and {nanos} ns are no duration")
        return _microseconds(seconds, nanos, operator, where)
    value: Value = getattr(message, kind)
    return value


def _microseconds(seconds: int, nanos: int, operator: Operator, where: str) -> timedelta:
    microseconds, finer = divmod(nanos, 1_000)
    if finer and operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        raise InvalidRequestError(where, f"{nanos} ns are finer than a microsecond, which nothing equals; use bounds")
    if finer and operator in _ROUNDED_UP:
        microseconds += 1
    return timedelta(seconds=seconds, microseconds=microseconds)


def filled(message: MessageT, row: Mapping[str, Any]) -> MessageT:
    """Write the fields of a row into a message and return it; fields that are None, or that it lacks, are left out."""
    known = message.DESCRIPTOR.fields_by_name
    for name, value in row.items():
        if value is None or name not in known:
            continue
        if isinstance(value, IntEnum):
            setattr(message, name, value.name)
        elif isinstance(value, datetime):
            _put_time(getattr(message, name), value)
        elif isinstance(value, timedelta):
            getattr(message, name).FromTimedelta(value)
        elif isinstance(value, TaskOptions):
            getattr(message, name).CopyFrom(options_to_wire(value))
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


def _put_time(message: Timestamp, value: datetime) -> None:
    since = value - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1_000


def query_to_wire(query: Query) -> query_pb2.Query:
    """Encode a query."""
    return query_pb2.Query(
        filter=filter_to_wire(query.any_of),
        sort=[query_pb2.Sort(field=sort.field, descending=sort.descending) for sort in query.sort],
        fields=query.fields,
        page_size=query.page_size,
        with_total=query.with_total,
        **({"cursor": query.cursor} if query.cursor else {"page": query.page}),
    )


def filter_to_wire(any_of: Filter) -> query_pb2.Filter:
    """Encode a filter."""
    return query_pb2.Filter(
        any_of=[query_pb2.Conjunction(all_of=[_to_wire(condition) for condition in all_of]) for all_of in any_of]
    )


def _to_wire(condition: Condition) -> query_pb2.Condition:
    message = query_pb2.Condition(field=condition.field, operator=query_pb2.Operator.Value(condition.operator.name))
    value = condition.value
    if isinstance(value, bool):
        message.boolean = value
    elif isinstance(value, str):
        message.text = value
    elif isinstance(value, int):
        message.number = value
    elif isinstance(value, datetime):
        _put_time(message.time, value)
    elif isinstance(value, timedelta):
        message.duration.FromTimedelta(value)
    return message
