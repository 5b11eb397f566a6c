"""Numbers from a sequence, in blocks that a replica takes at once."""

import asyncio

from ripieno.store.database.database import Database

#: The increment of every sequence that is read in blocks.
_BLOCK = 1024


class Numbers:
    """Hands out numbers from blocks of a sequence, so that most calls need no round trip.

    Numbers of a block that is not used up are skipped; nothing depends on their order.

    Args:
        database: The database.
        next_block: Statement that takes a block and returns its first number as ``first``.
    """

    def __init__(self, database: Database, next_block: str) -> None:
        self._database = database
        self._next_block = next_block
        self._next = 0
        self._end = 0
        self._lock = asyncio.Lock()
        database.on_new_incarnation.append(self._forget)

    async def take(self, count: int) -> list[int]:
        """Return ``count`` numbers that nobody else gets."""
        async with self._lock:
            taken: list[int] = []
            while True:
                upto = min(self._end, self._next + count - len(taken))
                taken += range(self._next, upto)
                self._next = upto
                if len(taken) == count:
                    return taken
                incarnation = self._database.incarnation
                first = await self._block()
                if incarnation == self._database.incarnation:
                    self._next, self._end = first, first + _BLOCK

    def _forget(self) -> None:
        """Drop the current block when the database is another incarnation: its sequence may have gone back."""
        self._next = self._end = 0

    async def _block(self) -> int:
        row = await self._database.fetchrow(self._next_block)
        assert row is not None  # nextval always returns
        first: int = row["first"]
        return first
