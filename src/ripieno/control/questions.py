"""Questions about many ids, which are answered two at a time: each takes a while and much memory.

Whoever waits too long for a turn is refused, and may ask again. How many wait is not bounded here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ripieno.control.arrivals import Turns
from ripieno.domain.errors import OverloadedError

#: What names more is a long question.
MANY_IDS = 5_000

_AT_ONCE = 2
#: How long a question waits for its turn.
_PATIENCE_S = 10.0


class Questions:
    """Those that one replica answers."""

    def __init__(self) -> None:
        self._turns = Turns(_AT_ONCE)

    @asynccontextmanager
    async def turn(self, ids: int | None) -> AsyncIterator[None]:
        """Answer a question about so many ids in the block, when it is its turn; None: very many.

        Raises:
            OverloadedError: others were before it for too long.
        """
        if ids is not None and ids <= MANY_IDS:
            yield
            return
        if not await self._turns.take(1, _PATIENCE_S):
            raise OverloadedError(
                f"other calls that name more than {MANY_IDS:,} ids are under way;"
                " send the same again a little later, or ask in several calls"
            )
        try:
            yield
        finally:
            self._turns.give_back(1)
