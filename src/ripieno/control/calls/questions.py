"""Questions about many ids, which are answered two at a time since each takes a while and much memory.

A question that waits too long for its turn, or would wait with more bytes than there is room for, is refused, and may
be asked again.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ripieno.control.calls.arrivals import Turns
from ripieno.domain.errors import OverloadedError

#: A question that names more ids than this waits for its turn.
MANY_IDS = 5_000

#: Questions about many ids that are answered at once.
_AT_ONCE = 2
#: Seconds that a question waits for its turn.
_PATIENCE_S = 10.0
#: The most bytes of such questions in memory, including those that wait for their turn.
_ROOM_BYTES = 64 * 1024 * 1024


class Questions:
    """Turns for the questions that one replica answers."""

    def __init__(self) -> None:
        self._turns = Turns(_AT_ONCE)
        self._room = Turns(_ROOM_BYTES)

    @asynccontextmanager
    async def turn(self, ids: int | None, size: int) -> AsyncIterator[None]:
        """Wait for the turn of a question, which is then answered in the block; few ids need no turn.

        Args:
            ids: How many ids the question names; None for very many.
            size: Bytes that the question holds in memory while it waits and is answered.

        Raises:
            OverloadedError: if its turn did not come within 10 seconds, or other questions hold all room.
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
