"""``Beginning``: sessions as they are, page by page, for those who begin to follow them.

Each page is read with a snapshot of its own, so that a slow reader keeps no old snapshot open. Changes that were
committed since the first page was read are read from the log afterwards; those that a page has shown already
are left out: the pages remember what they saw.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from typing import Generic, TypeVar

import asyncpg

from ripieno.domain.changes import Change, ResultChange, SessionChange, TaskChange
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.store.changelog.log import SQL, ChangeLog
from ripieno.store.changelog.snapshots import Snapshot
from ripieno.store.database.database import Database

PlaceT = TypeVar("PlaceT", int, str)


class _Pages(Generic[PlaceT]):
    """The pages of one list that were read: for each its last entry and the snapshot that it saw.

    Keys compare by code points here and by bytes of UTF-8 in the database, which is the same order.
    """

    def __init__(self) -> None:
        self._ends: list[PlaceT] = []
        self._seen: list[Snapshot] = []

    def add(self, last: PlaceT | None, seen: Snapshot) -> None:
        """Note a page; ``last`` is None if nothing follows it."""
        if last is not None:
            self._ends.append(last)
        self._seen.append(seen)

    def sees(self, place: PlaceT, transaction: int) -> bool:
        """Return whether the page on which an entry is, or would be, saw a transaction."""
        page = bisect_left(self._ends, place)
        return page < len(self._seen) and self._seen[page].sees(transaction)


class _Session:
    def __init__(self, seen: Snapshot) -> None:
        self.seen = seen
        self.tasks: _Pages[int] = _Pages()
        self.results: _Pages[str] = _Pages()


class Beginning:
    """Reads sessions as they are.

    Args:
        sessions: Numbers of the sessions; None reads all.
        page: Tasks or results on a page.
    """

    def __init__(
        self, database: Database, log: ChangeLog, sessions: Sequence[int] | None, *, page: int = 1_000
    ) -> None:
        self._page_size = page
        self._database = database
        self._log = log
        self._wanted = sessions
        self._sessions: dict[int, _Session] = {}

    async def pages(self) -> AsyncIterator[list[Change]]:
        """Yield what there is, as changes from nothing; each page is safe on the disk."""
        wanted = self._wanted
        if wanted is None:
            wanted = [row["session_no"] for row in await self._database.fetch(SQL.all_sessions)]
        for session_no in wanted:
            row = await self._database.fetchrow(SQL.session_now, [session_no])
            if row is None:
                continue
            await self._log.flushed(row["written"])
            known = self._sessions[session_no] = _Session(Snapshot.parse(row["seen"]))
            yield [SessionChange(row["id"], row["created_at"], SessionStatus(row["status"]))]
            async for page in self._results(session_no, row["id"], known):
                yield page
            async for page in self._tasks(session_no, row["id"], known):
                yield page

    def told(self, session_no: int, entity: int | str | None, transaction: int) -> bool:
        """Return whether the pages have shown what a transaction did to a task, a result, or (None) the session."""
        known = self._sessions.get(session_no)
        if known is None:
            return False
        if entity is None:
            return known.seen.sees(transaction)
        if isinstance(entity, int):
            return known.tasks.sees(entity, transaction)
        return known.results.sees(entity, transaction)

    async def _tasks(self, session_no: int, session_id: str, known: _Session) -> AsyncIterator[list[Change]]:
        last: int | None = 0
        while last is not None:
            rows = await self._page(SQL.tasks_now, session_no, last)
            last = rows[-1]["task_no"] if rows[0]["found"] == self._page_size else None
            known.tasks.add(last, Snapshot.parse(rows[0]["seen"]))
            yield [
                TaskChange(
                    session_id,
                    row["submitted_at"],
                    row["id"],
                    TaskStatus(row["status"]),
                    row["retry"],
                    created=True,
                    ready=row["unmet"] == 0,
                    expected_output_keys=row["expected_output_keys"],
                    data_dependencies=row["data_dependencies"],
                )
                for row in rows
                if row["task_no"] is not None
            ]

    async def _results(self, session_no: int, session_id: str, known: _Session) -> AsyncIterator[list[Change]]:
        last: str | None = ""
        while last is not None:
            rows = await self._page(SQL.results_now, session_no, last)
            last = rows[-1]["key"] if rows[0]["found"] == self._page_size else None
            known.results.add(last, Snapshot.parse(rows[0]["seen"]))
            yield [
                ResultChange(
                    session_id,
                    row["ended_at"] or row["created_at"],
                    row["key"],
                    ResultStatus(row["status"]),
                    row["owner_id"] or "",
                    (row["size"] or 0) if row["status"] == ResultStatus.COMPLETED else 0,
                )
                for row in rows
                if row["key"] is not None
            ]

    async def _page(self, statement: str, session_no: int, last: int | str) -> list[asyncpg.Record]:
        """Return the rows of a page; one with nulls if there are none, which has the snapshot all the same."""
        async with self._database.long_lists:
            rows = await self._database.fetch(statement, session_no, last, self._page_size)
        await self._log.flushed(rows[0]["written"])
        return rows
