"""Explanations on the wire: the messages have the fields of the classes in ``ripieno.domain.explanations``, by name."""

import types
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from ripieno.domain.explanations import KINDS, AttemptTold, Explanation, Reason
from ripieno.domain.statuses import TaskStatus
from ripieno.wire.protos.v1 import tasks_pb2
from ripieno.wire.queries import filled

RecordT = TypeVar("RecordT")


def explanation_to_wire(explanation: Explanation) -> tasks_pb2.Explanation:
    """Encode an explanation."""
    message = tasks_pb2.Explanation(
        task_id=explanation.task_id,
        session_id=explanation.session_id,
        status=explanation.status.name,
        attempt=explanation.attempt,
        attempts_total=explanation.attempts_total,
    )
    for attempt in explanation.attempts:
        _write(message.attempts.add(), attempt)
    for reason in explanation.reasons:
        about = message.reasons.add(kind=reason.kind, sentence=reason.sentence)
        getattr(about, reason.kind).SetInParent()
        _write(getattr(about, reason.kind), reason.about)
    return message


def explanation_from_wire(message: tasks_pb2.Explanation) -> Explanation:
    """Decode an explanation. A reason of a kind that is not known here has its sentence alone."""
    return Explanation(
        message.task_id,
        message.session_id,
        TaskStatus[message.status],
        message.attempt,
        tuple(_reason(reason) for reason in message.reasons),
        tuple(_record(AttemptTold, attempt) for attempt in message.attempts),
        message.attempts_total,
    )


def _reason(message: tasks_pb2.Reason) -> Reason:
    kind = message.WhichOneof("about")
    about = None if kind is None else _record(KINDS[kind], getattr(message, kind))
    return Reason(message.kind, message.sentence, about)


def _write(message: Message, record: Any) -> None:
    """Write the fields of a record, and of the records that it has lists of, into a message."""
    plain: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Sequence) and not isinstance(value, str):
            rows: Any = getattr(message, field.name)
            for row in value:
                if is_dataclass(row):
                    _write(rows.add(), row)
                else:
                    rows.append(row)
        else:
            plain[field.name] = value
    filled(message, plain)


def _record(kind: Callable[..., RecordT], message: Any) -> RecordT:
    return kind(**{name: _value(hint, message, name) for name, hint in _hints(kind).items()})


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, message: Any, name: str) -> Any:
    value = getattr(message, name)
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [each for each in get_args(hint) if each is not type(None)]
        if value == "" or (hint in (datetime, timedelta) and not message.HasField(name)):
            return None
    if get_origin(hint) is not None:  # a sequence
        [of] = get_args(hint)
        return tuple(each if of is str else _record(of, each) for each in value)
    if hint is datetime:
        return value.ToDatetime(UTC)
    if hint is timedelta:
        return value.ToTimedelta()
    return hint[value] if issubclass(hint, IntEnum) else value
