"""``Tail``: the look at the end of the log of changes that all followers of a replica share.

While somebody follows, the tail asks the database ten times a second, and at once after a commit of this replica or
news of another one, which sessions have changed. Followers of these read the log; all others who were at the end of
the log are moved on to its new end, so that idle followers cost nothing and their cursors do not grow old.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ripieno.background import Health, Setback
from ripieno.store.changelog.cursors import Cursor
from ripieno.store.changelog.log import ChangeLog, Touched

#: Seconds between two looks: at the least, however much is committed, and at the most, however little is.
_LEAST_S = 0.01
_MOST_S = 0.1


class Place:
    """The place of one follower in the log.

    Attributes:
        cursor: Behind what the follower has read.
        sessions: Numbers of the sessions that it follows; None: all.
        news: Set when there may be something behind the cursor.
    """

    def __init__(self, cursor: Cursor, sessions: Sequence[int] | None) -> None:
        self.cursor = cursor
        self.sessions = None if sessions is None else frozenset(sessions)
        self.news = asyncio.Event()
        self.news.set()

    def _concerned(self, touched: Touched) -> bool:
        return bool(touched.sessions) if self.sessions is None else not self.sessions.isdisjoint(touched.sessions)

    def look(self, touched: Touched) -> None:
        """Take in what the tail has seen."""
        if self._concerned(touched):
            self.news.set()
        elif self.cursor.seen == touched.before and not self.cursor.upto and not self.news.is_set():
            self.cursor = replace(self.cursor, seen=touched.seen)


class Tail:
    """Wakes those who follow the log, while there are any."""

    def __init__(self, log: ChangeLog, health: Health) -> None:
        self._log = log
        self._setback = Setback("following changes", health)
        self._places: set[Place] = set()
        self._joined = asyncio.Event()
        self._woken = asyncio.Event()

    @contextmanager
    def follow(self, cursor: Cursor, sessions: Sequence[int] | None) -> Iterator[Place]:
        """Have a place in the log watched while the block runs."""
        place = Place(cursor, sessions)
        self._places.add(place)
        self._joined.set()
        try:
            yield place
        finally:
            self._places.discard(place)

    @property
    def share(self) -> int:
        """How many changes each follower may hold in memory, so that those who do not read hold little together."""
        return max(50, min(500, 20_000 // max(len(self._places), 1)))

    def wake(self, _changes: object) -> None:
        """Look at once: something was committed, here or elsewhere."""
        self._woken.set()

    async def run(self) -> None:
        """Look again and again while somebody follows, until cancelled."""
        while True:
            await self._joined.wait()
            try:
                await self._watch()
            except Exception as error:  # noqa: BLE001 - no fault ends the watching; the setback logs it once
                await asyncio.sleep(self._setback.note(error))

    async def _watch(self) -> None:
        seen = (await self._log.now()).seen
        self._wake_all()  # between an earlier look and this one something may have been missed
        while self._places:
            self._woken.clear()
            touched = await self._log.touched(seen)
            self._setback.over()
            for place in self._places:
                place.look(touched)
            seen = touched.seen
            await asyncio.sleep(_LEAST_S)
            try:
                async with asyncio.timeout(_MOST_S - _LEAST_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
        self._joined.clear()

    def _wake_all(self) -> None:
        for place in self._places:
            place.news.set()
