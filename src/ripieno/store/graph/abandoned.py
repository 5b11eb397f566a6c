"""Cuts, promotions, revivals and cancellations that no replica works on any more.

Each step of such work moves a mark in its table. Work whose mark has not moved between two looks, some
seconds of the observer's own clock apart, was left unfinished: its replica has ended, or has
lost the database. No time of the database is compared with anything.
"""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from ripieno.store.graph.graph import SQL as GRAPH
from ripieno.store.graph.revivals import SQL as REVIVALS

_CANCEL = Queries("cancel")


class Found(NamedTuple):
    """Abandoned work that the caller has to continue.

    Attributes:
        cuts: Sessions with unfinished cuts.
        promotions: Sessions with unfinished promotions.
        revivals: Sessions with unfinished revivals.
        cancellations: Sessions that are being cancelled, each with its cancellation.
    """

    cuts: list[int]
    promotions: list[int]
    revivals: list[int]
    cancellations: list[tuple[int, UUID]]


class Abandoned:
    """Finds abandoned work, by remembering where all work stood at the last look."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cuts: dict[int, int] = {}
        self._promotions: dict[int, int] = {}
        self._revivals: dict[int, int] = {}
        self._cancellations: dict[tuple[int, UUID], int] = {}

    async def look(self) -> Found:
        """Return the work that has not moved since the last look.

        An abandoned cancellation of some tasks was not confirmed to anybody, so it is ended here: the tasks that
        it has not reached stay as they are, and the cuts that waited for its end go on.
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
        revivals_before, self._revivals = self._revivals, await self._lowest(REVIVALS.pending_revivals)
        return Found(
            _unmoved(cuts_before, self._cuts),
            _unmoved(promotions_before, self._promotions),
            _unmoved(revivals_before, self._revivals),
            whole,
        )

    async def _lowest(self, statement: str) -> dict[int, int]:
        """Return the lowest number of pending work by session; it grows with each step."""
        return {row["session_no"]: row["lowest"] for row in await self._database.fetch(statement)}


def _unmoved(before: Mapping[int, int], now: Mapping[int, int]) -> list[int]:
    return [session_no for session_no, lowest in now.items() if before.get(session_no) == lowest]
