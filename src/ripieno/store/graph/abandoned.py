"""Cuts, promotions and cancellations on which nobody works any more.

Whoever works on one moves it on with each step. One that has not moved between two looks, some
seconds of the looker's own clock apart, was left in the middle: its replica has ended, or has
lost the database. No time of the database is compared with anything.
"""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from ripieno.store.graph.graph import SQL as GRAPH

_CANCEL = Queries("cancel")


class Found(NamedTuple):
    """What has to be gone on with.

    Attributes:
        cuts: Sessions.
        promotions: Sessions.
        cancellations: Sessions that are being cancelled, each with its cancellation.
    """

    cuts: list[int]
    promotions: list[int]
    cancellations: list[tuple[int, UUID]]


class Abandoned:
    """Remembers where everything stood at the last look."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cuts: dict[int, int] = {}
        self._promotions: dict[int, int] = {}
        self._cancellations: dict[tuple[int, UUID], int] = {}

    async def look(self) -> Found:
        """What has not moved since the last look.

        A cancellation of some tasks that was left in the middle was not confirmed to anybody: what
        it has not reached stays as it is, and the cuts that waited for its end go on.
        """
        rows = await self._database.fetch(_CANCEL.pending_cancellations)
        before, self._cancellations = (
            self._cancellations,
            {(row["session_no"], row["cancellation"]): row["steps"] for row in rows},
        )
        left = {place for place, steps in self._cancellations.items() if before.get(place) == steps}
        whole = [
            (row["session_no"], row["cancellation"])
            for row in rows
            if row["whole_session"] and (row["session_no"], row["cancellation"]) in left
        ]
        for session_no, cancellation in left.difference(whole):
            await self._database.fetch(_CANCEL.end_cancellation, [session_no], cancellation)
        cuts_before, self._cuts = self._cuts, await self._lowest(GRAPH.pending_cuts)
        promotions_before, self._promotions = self._promotions, await self._lowest(GRAPH.pending_promotions)
        return Found(_unmoved(cuts_before, self._cuts), _unmoved(promotions_before, self._promotions), whole)

    async def _lowest(self, statement: str) -> dict[int, int]:
        """Where each session stands."""
        return {row["session_no"]: row["lowest"] for row in await self._database.fetch(statement)}


def _unmoved(before: Mapping[int, int], now: Mapping[int, int]) -> list[int]:
    return [session_no for session_no, lowest in now.items() if before.get(session_no) == lowest]
