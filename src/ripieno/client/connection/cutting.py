"""Cutting what is too much for one call: in halves, until each of them is within the server's limits.

Calls are made small enough for the limits that servers have unless they are told otherwise.
This is for those that have been told otherwise.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ripieno.domain.errors import LimitError

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

#: Limits of one call. No name is that of a limit that is not this project's, such as gRPC's own of a message.
_OF_A_CALL = frozenset({"tasks_per_call", "keys_per_call", "bytes_per_call", "ids_per_request", ""})


def can_be_cut(error: LimitError) -> bool:
    """Whether a call with fewer items may be within the limit."""
    return error.limit in _OF_A_CALL


async def in_pieces(send: Callable[[Sequence[ItemT]], Awaitable[AnswerT]], items: Sequence[ItemT]) -> list[AnswerT]:
    """Send items in one call; in several where the server says that they are too many for one.

    Args:
        send: Makes one call. Called again only for what was refused.

    Raises:
        LimitError: a single item is too much, or there is a limit that cutting does not help with.
    """
    try:
        return [await send(items)]
    except LimitError as error:
        if len(items) < 2 or not can_be_cut(error):
            raise
    half = len(items) // 2
    return [*await in_pieces(send, items[:half]), *await in_pieces(send, items[half:])]
