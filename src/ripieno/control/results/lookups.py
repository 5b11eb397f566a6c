"""Batched lookups of single results, each asked for by a call of its own.

A client of the original protocol reads each result by a call of its own, many at a time.
Lookups that are asked for while a statement is under way share the next one (a statement
costs 0.1 ms of PostgreSQL and as much of this process).
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from ripieno.control.calls.batching import Batcher
from ripieno.store.database.database import Database
from ripieno.store.database.faults import OTHER_INCARNATION, StaleError
from ripieno.store.reading.lookup import FoundResult, find_results

#: The most results in one statement, each with data up to the inline limit.
_LARGEST_LOOKUP = 64


class _Asked(NamedTuple):
    """A lookup of one result, with the incarnation of the database to which the session's number belongs."""

    incarnation: int
    session_no: int
    key: str


class ResultLookups:
    """Looks up single results, those asked for at about the same time together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: Batcher[_Asked, FoundResult | None] = Batcher(self._find, largest=_LARGEST_LOOKUP)

    async def run(self) -> None:
        """Look results up until cancelled."""
        await self._keys.run()

    def find(self, session_no: int, key: str) -> "asyncio.Future[FoundResult | None]":
        """Look up the present state of a result, with its data; None if nobody has announced the key."""
        return self._keys.put(_Asked(self._database.incarnation, session_no, key))

    async def _find(self, asked: Sequence[_Asked]) -> list[FoundResult | None]:
        if any(each.incarnation != self._database.incarnation for each in asked):
            raise StaleError(OTHER_INCARNATION)
        return await find_results(self._database, [(each.session_no, each.key) for each in asked])
