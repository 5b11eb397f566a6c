"""``EventsFollower``: one follower's way through the log: a snapshot, what came meanwhile, then change by change."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from ripieno.control.events.tail import Place, Tail
from ripieno.domain.changes import Change, SessionChange
from ripieno.domain.errors import NotFoundError
from ripieno.domain.statuses import SessionStatus
from ripieno.store.changelog.beginning import Beginning
from ripieno.store.changelog.cursors import Cursor
from ripieno.store.changelog.expansion import Told, expand
from ripieno.store.changelog.log import Batch, ChangeLog, DroppedError
from ripieno.store.database.database import Database

#: Seconds after which a follower looks for itself, whatever the tail says.
_LOOK_EVERY_S = 5.0
#: Seconds after which an idle client is told a younger cursor.
_CURSOR_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Tidings:
    """What a follower is told at once.

    Attributes:
        changes: In order.
        cursor: Where to go on once they are processed; None if not from here.
        snapshot: Whether the changes tell what is, not what has changed.
        snapshot_ends: Whether these are the last ones of a snapshot.
        restarted: Why the follower begins anew; empty if it does not.
    """

    changes: Sequence[Change]
    cursor: Cursor | None
    snapshot: bool = False
    snapshot_ends: bool = False
    restarted: str = ""


class EventsFollower:
    """Reads the log for one client.

    Args:
        sessions: Numbers of the sessions to follow; None: all.
        unchanged: Raises an error if the database is another incarnation than the numbers are from.
        leaving: Fails when the replica goes away.
    """

    def __init__(
        self,
        database: Database,
        log: ChangeLog,
        tail: Tail,
        sessions: Sequence[int] | None,
        unchanged: Callable[[], None],
        leaving: "asyncio.Future[Any]",
    ) -> None:
        self._database = database
        self._log = log
        self._tail = tail
        self._sessions = sessions
        self._left = None if sessions is None else len(set(sessions))
        self._unchanged = unchanged
        self._leaving = leaving

    async def follow(self, cursor: Cursor | None, *, with_snapshot: bool) -> AsyncGenerator[Tidings, None]:
        """Yield what there is and what changes, until closed.

        Args:
            cursor: Where to go on; None begins.
            with_snapshot: Whether to begin with what there is.
        """
        restarted = ""
        if cursor is None and not with_snapshot:
            cursor = await self._log.now()
            yield Tidings([], cursor)
        while True:
            try:
                if cursor is None:
                    async for tidings in self._begin(restarted):
                        yield tidings
                        self._check_left(tidings.changes)
                        cursor = tidings.cursor
                else:
                    await self._log.check(cursor)
                assert cursor is not None  # the last tidings of the beginning have one
                async for tidings in self._go_on(cursor):
                    yield tidings
                    self._check_left(tidings.changes)
            except DroppedError as error:
                cursor, restarted = None, str(error)

    def _check_left(self, changes: Sequence[Change]) -> None:
        """Note which sessions were deleted.

        Raises:
            NotFoundError: none of those that are followed is left.
        """
        if self._left is None:
            return
        for change in changes:
            if isinstance(change, SessionChange) and change.status is SessionStatus.DELETED:
                self._left -= 1
                if not self._left:
                    raise NotFoundError(f"session {change.session_id!r} was deleted")

    async def _begin(self, restarted: str) -> AsyncGenerator[Tidings, None]:
        """Yield what there is, then what came while that was read, with the cursor behind it."""
        cursor = await self._log.now()
        with self._tail.follow(cursor, self._sessions):  # a follower whose share of the memory counts
            beginning = Beginning(self._database, self._log, self._sessions, page=self._tail.share)
            async for changes in beginning.pages():
                self._unchanged()
                yield Tidings(changes, None, snapshot=True, restarted=restarted)
                restarted = ""
            yield Tidings([], None, snapshot=True, snapshot_ends=True, restarted=restarted)
            complete = False
            while not complete:
                batch = await self._log.read(cursor, self._sessions)
                cursor, complete = batch.cursor, batch.complete
                async for tidings in self._tidings(batch, beginning.told):
                    yield replace(tidings, cursor=tidings.cursor if complete else None)

    async def _go_on(self, cursor: Cursor) -> AsyncGenerator[Tidings, None]:
        with self._tail.follow(cursor, self._sessions) as place:
            told = cursor
            told_at = asyncio.get_running_loop().time()
            while True:
                await self._news(place)
                complete = False
                while not complete:
                    batch = await self._log.read(place.cursor, self._sessions)
                    place.cursor, complete = batch.cursor, batch.complete
                    if batch.rows:
                        async for tidings in self._tidings(batch):
                            yield tidings
                        told, told_at = place.cursor, asyncio.get_running_loop().time()
                if told != place.cursor and asyncio.get_running_loop().time() > told_at + _CURSOR_EVERY_S:
                    yield Tidings([], place.cursor)
                    told, told_at = place.cursor, asyncio.get_running_loop().time()

    async def _tidings(self, batch: Batch, told: Told | None = None) -> AsyncGenerator[Tidings, None]:
        """Yield the changes of a batch, part by part, and last the cursor behind it."""
        share = self._tail.share
        parts = (
            expand(self._database, batch.rows, most=share)
            if told is None
            else expand(self._database, batch.rows, told, share)
        )
        async with aclosing(parts):
            before: Sequence[Change] = []
            async for changes in parts:
                self._unchanged()
                if before:
                    yield Tidings(before, None)
                before = changes
        self._unchanged()
        yield Tidings(before, batch.cursor)

    async def _news(self, place: Place) -> None:
        """Wait until there may be news, or for ``_LOOK_EVERY_S``.

        Raises:
            UnavailableError: the replica goes away.
        """
        waiting = asyncio.ensure_future(place.news.wait())
        try:
            await asyncio.wait({waiting, self._leaving}, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if self._leaving.done():
                self._leaving.result()
        finally:
            waiting.cancel()
        place.news.clear()
