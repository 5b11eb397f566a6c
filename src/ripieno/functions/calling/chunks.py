"""How the calls of ``Cluster.map`` share tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

T = TypeVar("T")

#: With ``chunk="auto"``: so many tasks at most, as long as no more than ``_LONGEST`` calls share one.
_TASKS = 1_000
_LONGEST = 100


def chunk_length(chunk: int | Literal["auto"], calls: int) -> int:
    """Return how many calls share a task.

    Raises:
        ValueError: ``chunk`` is no number of calls.
    """
    if chunk == "auto":
        return max(1, min(-(-calls // _TASKS), _LONGEST))
    length: object = chunk
    if type(length) is not int or length < 1:
        raise ValueError(f"chunk is a number of calls, 1 or more, or 'auto', not {chunk!r}")
    return length


def chunks(items: Sequence[T], length: int) -> Iterator[Sequence[T]]:
    """Yield the items in parts of a length; the last one may be shorter."""
    return (items[begin : begin + length] for begin in range(0, len(items), length))
