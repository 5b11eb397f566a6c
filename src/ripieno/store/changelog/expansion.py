"""Expansion of rows of the log into changes: ids, owners and sizes are looked up as they are now."""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import asyncpg

from ripieno.domain.changes import Change, ResultChange, SessionChange, TaskChange
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.store.changelog.log import SQL
from ripieno.store.database.database import Database

#: Whether somebody was told already what a transaction did: session, task number or key (None: the session itself),
#: transaction.
Told = Callable[[int, int | str | None, int], bool]


class Kind(IntEnum):
    """What a row of the log tells (the table ``changes``)."""

    SESSION = 1
    CREATED = 2
    CREATED_READY = 3
    MOVED = 4
    COMPLETED = 5
    READY = 6
    RESULTS = 7


async def expand(
    database: Database,
    rows: Sequence[asyncpg.Record],
    told: Told = lambda session_no, entity, transaction: False,
    most: int = 500,
) -> AsyncGenerator[list[Change], None]:
    """Yield the changes that rows of the log stand for, in order, those of some ``most`` tasks or results at a time.

    What belongs to a session, task or result that is deleted by now is left out.
    """
    part: list[Row] = []
    size = 0
    for row in rows:
        for slice_ in _sliced(row, most):
            part.append(slice_)
            size += slice_.size
            if size >= most:
                yield await _expanded(database, part, told)
                part, size = [], 0
    if part:
        yield await _expanded(database, part, told)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the log, or a part of one: some of its tasks or keys."""

    session_no: int
    transaction: int
    at: datetime
    kind: Kind
    status: int
    task_nos: Sequence[int]
    attempts: Sequence[int]
    keys: Sequence[str]

    @property
    def size(self) -> int:
        """How many tasks or results the row names; 1 for a session."""
        return len(self.task_nos) + len(self.keys) or 1


def _sliced(row: asyncpg.Record, most: int) -> Iterator[Row]:
    """Yield the row in parts of at most ``most`` tasks or keys."""
    task_nos, keys = row["task_nos"] or (), row["keys"] or ()
    attempts = row["attempts"] or [0] * len(task_nos)
    for start in range(0, max(len(task_nos), len(keys), 1), most):
        some = slice(start, start + most)
        yield Row(
            row["session_no"],
            row["transaction"],
            row["made_at"],
            Kind(row["kind"]),
            row["status"],
            task_nos[some],
            attempts[some],
            keys[some],
        )


async def _expanded(database: Database, rows: Sequence[Row], told: Told) -> list[Change]:
    task_nos = sorted({task_no for row in rows for task_no in row.task_nos})
    tasks = {row["task_no"]: row for row in await database.fetch(SQL.tasks, task_nos)} if task_nos else {}
    sessions = {
        row["session_no"]: row["id"]
        for row in await database.fetch(SQL.session_ids, sorted({row.session_no for row in rows}))
    }
    named = sorted({name for row in rows for name in _results_of(row, tasks)})
    results: dict[tuple[int, str], asyncpg.Record] = {}
    if named:
        columns = [session_no for session_no, _ in named], [key for _, key in named]
        results = {(row["session_no"], row["key"]): row for row in await database.fetch(SQL.results, *columns)}
    expansion = _Expansion(sessions, tasks, results, told)
    return [change for row in rows if row.session_no in sessions for change in expansion.of(row)]


def _results_of(row: Row, tasks: Mapping[int, asyncpg.Record]) -> Iterator[tuple[int, str]]:
    """Yield session and key of the results whose owners or sizes have to be looked up."""
    if row.kind == Kind.COMPLETED:
        for task_no in row.task_nos:
            if task_no in tasks:
                for key in tasks[task_no]["expected_output_keys"]:
                    yield row.session_no, key
    for key in row.keys:
        yield row.session_no, key


class _Expansion:
    def __init__(
        self,
        sessions: Mapping[int, str],
        tasks: Mapping[int, asyncpg.Record],
        results: Mapping[tuple[int, str], asyncpg.Record],
        told: Told,
    ) -> None:
        self._sessions = sessions
        self._tasks = tasks
        self._results = results
        self._told = told

    def of(self, row: Row) -> Iterator[Change]:
        """Yield the changes of one row."""
        if row.kind == Kind.SESSION:
            if not self._told(row.session_no, None, row.transaction):
                yield SessionChange(self._sessions[row.session_no], row.at, SessionStatus(row.status))
        elif row.kind == Kind.RESULTS:
            for key in row.keys:
                yield from self._result(row, key)
        else:
            yield from self._tasks_of(row)

    def _tasks_of(self, row: Row) -> Iterator[Change]:
        kind, session_id, at = row.kind, self._sessions[row.session_no], row.at
        status = TaskStatus(row.status)
        for task_no, attempt in zip(row.task_nos, row.attempts, strict=True):
            task = self._tasks.get(task_no)
            if task is None:
                continue
            created = kind in (Kind.CREATED, Kind.CREATED_READY)
            if created:
                for key in task["expected_output_keys"]:
                    if not self._told(row.session_no, key, row.transaction):
                        yield ResultChange(session_id, at, key, ResultStatus.CREATED, task["id"])
            if not self._told(row.session_no, task_no, row.transaction):
                yield TaskChange(
                    session_id,
                    at,
                    task["id"],
                    status,
                    task["retry"] if kind is Kind.COMPLETED else attempt,
                    created,
                    ready=kind in (Kind.CREATED_READY, Kind.READY),
                    expected_output_keys=task["expected_output_keys"] if created else (),
                    data_dependencies=task["data_dependencies"] if created else (),
                )
            if kind == Kind.COMPLETED:
                for key in task["expected_output_keys"]:
                    yield from self._result(row, key, task_no)

    def _result(self, row: Row, key: str, owner_no: int | None = None) -> Iterator[Change]:
        result = self._results.get((row.session_no, key))
        if result is None or (owner_no is not None and result["owner_no"] != owner_no):
            return
        if not self._told(row.session_no, key, row.transaction):
            status = ResultStatus.COMPLETED if owner_no is not None else ResultStatus(row.status)
            yield ResultChange(
                self._sessions[row.session_no],
                row.at,
                key,
                status,
                result["owner_id"] or "",
                (result["size"] or 0) if status is ResultStatus.COMPLETED else 0,
            )
