"""The reference evaluator: answers queries on rows in memory, by the words of ``domain.queries`` and nothing else."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ripieno.domain.options import TaskOptions
from ripieno.domain.queries import Condition, Filter, Operator, Sort
from store.shelf import Row


def value_of(row: Row, field: str) -> Any:
    """The value of a field, also of one within options."""
    owner, dot, part = field.partition(".")
    if not dot:
        return row[field]
    options: TaskOptions = row[owner]
    if part == "max_duration":
        return timedelta(microseconds=options.max_duration_us)
    if part in ("priority", "max_retries", "partition"):
        return getattr(options, part)
    return options.options.get(part.removeprefix("options."))


def meets(row: Row, condition: Condition) -> bool:
    """Whether a row meets a condition."""
    has, value = value_of(row, condition.field), condition.value
    if hasattr(has, "name"):
        has = has.name
    if isinstance(has, list) and not has:
        has = None
    complements = {
        Operator.NOT_EQUAL: Operator.EQUAL,
        Operator.NOT_CONTAINS: Operator.CONTAINS,
        Operator.IS_UNSET: Operator.IS_SET,
    }
    if (positive := complements.get(condition.operator)) is not None:
        return not meets(row, Condition(condition.field, positive, value))
    if has is None:
        return False
    match condition.operator:
        case Operator.IS_SET:
            return True
        case Operator.EQUAL:
            return bool(has == value)
        case Operator.LESS:
            return bool(has < value)
        case Operator.LESS_OR_EQUAL:
            return bool(has <= value)
        case Operator.GREATER:
            return bool(has > value)
        case Operator.GREATER_OR_EQUAL:
            return bool(has >= value)
        case Operator.CONTAINS:
            return value in has
        case Operator.STARTS_WITH:
            return bool(has.startswith(value))
        case Operator.ENDS_WITH:
            return bool(has.endswith(value))
    raise AssertionError(condition.operator)


def selected(rows: Sequence[Row], any_of: Filter, sort: Sequence[Sort]) -> list[Row]:
    """The rows that match, in order; ``rows`` are in the order of their keys."""
    found = [row for row in rows if not any_of or any(all(meets(row, each) for each in all_of) for all_of in any_of)]
    if sort and sort[-1].descending:
        found.reverse()
    for each in reversed(sort):
        found.sort(key=lambda row: _place(value_of(row, each.field)), reverse=each.descending)
    return found


def _place(value: Any) -> tuple[bool, Any]:
    return value is not None, 0 if value is None else value
