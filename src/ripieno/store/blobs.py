"""Numbers for stored results, and reading stored data back."""

import asyncio

from ripieno.store.database import Database

_BLOCK = 1024  # the increment of the sequence blob_numbers


class BlobNumbers:
    """Hands out numbers from blocks of the sequence, so that most takes cost nothing.

    Numbers of a block that is not used up are skipped; nothing depends on their order.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next = 0
        self._end = 0
        self._lock = asyncio.Lock()

    async def take(self, count: int) -> list[int]:
        """``count`` numbers that nobody else gets."""
        async with self._lock:
            taken: list[int] = []
            while True:
                upto = min(self._end, self._next + count - len(taken))
                taken += range(self._next, upto)
                self._next = upto
                if len(taken) == count:
                    return taken
                self._next = await self._block()
                self._end = self._next + _BLOCK

    async def _block(self) -> int:
        row = await self._database.fetchrow("select nextval('blob_numbers') as first")
        assert row is not None  # nextval always returns
        first: int = row["first"]
        return first
