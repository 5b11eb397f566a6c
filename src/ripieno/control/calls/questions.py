"""Questions about many ids, which are answered two at a time: each takes a while and much memory.

Whoever waits too long for a turn, or would wait with more than there is room for, is refused, and may ask again.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ripieno.control.calls.arrivals import Turns
from ripieno.domain.errors import OverloadedError

#: What names more is a long question.
MANY_IDS = 5_000

_AT_ONCE = 2
#: How long a question waits for its turn.
_PATIENCE_S = 10.0
#: Long questions in memory, those that wait for their turn included.
_ROOM_BYTES = 64 * 1024 * 1024


class Questions:
    """Those that one replica answers."""

    def __init__(self) -> None:
        self._turns = Turns(_AT_ONCE)
        self._room = Turns(_ROOM_BYTES)

    @asynccontextmanager
    async def turn(self, ids: int | None, size: int) -> AsyncIterator[None]:
        """Answer a question about so many ids in the block, when it is its turn; None: very many.

        Args:
            size: Bytes that it holds in memory while it waits and is answered.

        Raises:
            OverloadedError: others were before it for too long, or hold all room.
        """
        if ids is not None and ids <= MANY_IDS:
            yield
            return
        if not self._room.take_now(size):
            raise OverloadedError(_REFUSAL)
        try:
            if not await self._turns.take(1, _PATIENCE_S):
                raise OverloadedError(_REFUSAL)
            try:
                yield
            finally:
                self._turns.give_back(1)
        finally:
            self._room.give_back(size)


_REFUSAL = (
    f"other calls that name more than {MANY_IDS:,} ids are under way;"
    " send the same again a little later, or ask in several calls"
)
