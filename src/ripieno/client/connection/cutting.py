"""Cutting calls that are too large into halves, until each of them is within the server's limits.

Calls are made small enough for the default limits of servers; cutting is for servers that are
configured with lower ones.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ripieno.domain.errors import LimitError

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

#: Names of the limits of one call. The empty name stands for limits that are not this project's, such as gRPC's
#: own of a message.
_OF_A_CALL = frozenset({"tasks_per_call", "keys_per_call", "bytes_per_call", "ids_per_request", ""})


def can_be_cut(error: LimitError) -> bool:
    """Return whether a call with fewer items may be within the limit that ``error`` reports."""
    return error.limit in _OF_A_CALL


async def in_pieces(send: Callable[[Sequence[ItemT]], Awaitable[AnswerT]], items: Sequence[ItemT]) -> list[AnswerT]:
    """Send items in one call, or in several if the server says that they are too many for one.

    Args:
        send: Makes one call. It is called again only for items that were refused.

    Raises:
        LimitError: a single item is too much, or the limit is one that smaller calls do not help with.
    """
    try:
        return [await send(items)]
    except LimitError as error:
        if len(items) < 2 or not can_be_cut(error):
            raise
    half = len(items) // 2
    return [*await in_pieces(send, items[:half]), *await in_pieces(send, items[half:])]
