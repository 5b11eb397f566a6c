"""Queries about tasks and results, which lock and change nothing."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.filters import TaskFilter
from ripieno.domain.identifiers import task_id_of_alias
from ripieno.domain.outcomes import AttemptError, TaskFailure
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from ripieno.store.reading.reasons import as_it_ends, causes, own_reason, unmade
from ripieno.store.sessions.counts import read_counts

_SQL = Queries("lookup")

#: Keys in one statement of ``fetch_results``; few, since keys beyond the limit of bytes are looked up in vain.
_FETCHED_AT_ONCE = 64
#: Bytes that one call of ``fetch_results`` returns.
LARGEST_FETCH_BYTES = 2 * 1024 * 1024

#: Ids of tasks, or keys, in one statement (10 ms of PostgreSQL, 3 ms of this process).
_NAMES_AT_ONCE = 2_000

#: Why a DELETED result has no data.
DELETED = "its data was deleted"

#: Characters that all reasons of one task have together in an answer.
_LONGEST_STORY = 65_536


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task and its present status."""

    id: str
    task_no: int
    session_no: int
    status: TaskStatus


@dataclass(frozen=True, slots=True)
class FoundResult:
    """A result and its present status.

    Attributes:
        owner_no: Number of the task that makes it; None if none does.
        owner_id: Id of that task; empty if none makes it.
        data: The bytes of the result, or the object that holds them; None unless it is COMPLETED.
        reason: Why the result has no data, if the attempts of its owner do not say so.
    """

    status: ResultStatus
    owner_no: int | None
    owner_id: str
    reason: str | None
    data: Data | None


async def find_tasks(database: Database, ids: Sequence[str]) -> dict[str, FoundTask]:
    """Return the tasks with these ids, by the id as it was asked for.

    An attempt id (``<id>###<n>``) stands for its task, unless a task has just that id.
    """
    found = await _tasks_by_id(database, ids)
    aliases = {asked: task_id_of_alias(asked) for asked in ids if asked not in found and "###" in asked}
    if aliases:
        of_alias = await _tasks_by_id(database, [alias for alias in aliases.values() if alias is not None])
        found |= {asked: of_alias[alias] for asked, alias in aliases.items() if alias in of_alias}
    return found


async def _tasks_by_id(database: Database, ids: Sequence[str]) -> dict[str, FoundTask]:
    found = dict[str, FoundTask]()
    async for rows in _in_pieces(database, _SQL.tasks_by_id, ids):
        for row in rows:
            found[row["id"]] = FoundTask(row["id"], row["task_no"], row["session_no"], TaskStatus(row["status"]))
    return found


async def _in_pieces(
    database: Database, statement: str, names: Sequence[Any], *before: object
) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield the rows of a statement whose last argument is names; many names are asked in pieces.

    Pieces share two sessions in turns (``Database.long_lists``).
    """
    if len(names) <= _NAMES_AT_ONCE:
        yield await database.fetch(statement, *before, names)
        return
    for start in range(0, len(names), _NAMES_AT_ONCE):
        async with database.long_lists:
            rows = await database.fetch(statement, *before, names[start : start + _NAMES_AT_ONCE])
        yield rows


async def matching_tasks(database: Database, ids: Sequence[str], statuses: frozenset[TaskStatus] | None) -> list[str]:
    """Return the ids of those tasks that are in one of the statuses (None: all), in the order of submission."""
    found = {task.task_no: task for task in (await find_tasks(database, ids)).values()}
    return [task.id for _, task in sorted(found.items()) if statuses is None or task.status in statuses]


async def count_tasks(database: Database, which: TaskFilter) -> Mapping[TaskStatus, int]:
    """Return how many matching tasks are in each status; statuses without tasks are left out."""
    if which.session_ids is not None:
        counts = await read_counts(database, await session_numbers(database, which.session_ids))
    else:
        found = await find_tasks(database, which.task_ids or ())
        counts = await count_numbered(database, list({task.task_no for task in found.values()}))
    return {status: count for status, count in counts.items() if which.statuses is None or status in which.statuses}


async def count_numbered(database: Database, tasks: Sequence[int]) -> Mapping[TaskStatus, int]:
    """Return how many of the tasks with these numbers are in each status."""
    counts = Counter[TaskStatus]()
    async for rows in _in_pieces(database, _SQL.count_of_tasks, tasks):
        counts.update({TaskStatus(row["status"]): row["tasks"] for row in rows})
    return counts


async def stopped_tasks(database: Database, tasks: Sequence[int]) -> list[tuple[int, TaskStatus]]:
    """Return number and status of those tasks that are final or being cancelled."""
    return [(row["task_no"], TaskStatus(row["status"])) for row in await database.fetch(_SQL.stopped_tasks, tasks)]


async def session_numbers(database: Database, ids: Sequence[str]) -> list[int]:
    """Return the numbers of those of the sessions that exist."""
    return [row["session_no"] for row in await database.fetch(_SQL.sessions_by_id, ids)]


async def result_statuses(database: Database, session_no: int, keys: Sequence[str]) -> dict[str, ResultStatus]:
    """Return the statuses of those keys that a task has announced."""
    found = dict[str, ResultStatus]()
    async for rows in _in_pieces(database, _SQL.results_by_key, keys, session_no):
        found |= {row["key"]: ResultStatus(row["status"]) for row in rows if row["status"] != ResultStatus.NAMED}
    return found


async def find_result(database: Database, session_no: int, key: str) -> FoundResult | None:
    """Return the result of a key; None if no task has announced the key."""
    [found] = await find_results(database, [(session_no, key)])
    return found


async def find_results(database: Database, keys: Sequence[tuple[int, str]]) -> list[FoundResult | None]:
    """Return the result for each session number and key; None where no task has announced the key."""
    rows = await database.fetch(_SQL.results, [number for number, _ in keys], [key for _, key in keys])
    return [_found_result(row) for row in rows]


def _found_result(row: asyncpg.Record) -> FoundResult | None:
    if row["status"] is None or row["status"] == ResultStatus.NAMED:
        return None
    data = None
    if row["status"] == ResultStatus.COMPLETED:
        data = StoredObject(row["object"], row["size"], row["sha256"]) if row["data"] is None else row["data"]
    reason = None
    if row["status"] == ResultStatus.DELETED:
        reason = DELETED
    elif row["status"] == ResultStatus.ABORTED and row["owner_no"] is None:
        reason = "its session was ended before anybody uploaded it"
    elif row["status"] == ResultStatus.ABORTED and row["owner_status"] == TaskStatus.COMPLETED:
        reason = unmade(row["owner_id"])
    return FoundResult(ResultStatus(row["status"]), row["owner_no"], row["owner_id"] or "", reason, data)


class NeverThere(str):
    """A sentence that says why a result has no data, and that it will never have any: it was deleted."""

    __slots__ = ()


class FinishedKey(NamedTuple):
    """A key for which waiting ends: its result is final, or no task has announced it (NAMED).

    Attributes:
        data: The bytes of the result, if they are stored inline and within the limit of the request.
        stored: The object that holds the bytes, if they are in the object store.
        unread: True if the bytes are within the limit of one key, but the limit of all was reached: ask again.
    """

    key: str
    status: ResultStatus
    size: int
    data: bytes | None
    stored: StoredObject | None = None
    unread: bool = False


async def finished_results(
    database: Database, session_no: int, keys: Sequence[str], data_limit: int, total_limit: int
) -> list[FinishedKey]:
    """Return those keys for which waiting ends, in the order of the keys.

    Bytes are included up to ``data_limit`` for each key, and up to ``total_limit`` for
    all together (but always those of the first); keys beyond that are marked as unread.
    """
    rows = await database.fetch(_SQL.finished_results, session_no, keys, data_limit, max(data_limit, total_limit))
    return [
        FinishedKey(
            row["key"],
            ResultStatus(row["status"]),
            row["size"] or 0,
            row["data"],
            row["object"] and StoredObject(row["object"], row["size"], row["sha256"]),
            row["unread"],
        )
        for row in rows
    ]


async def fetch_results(
    database: Database, keys: Sequence[tuple[int, str]], total_limit: int = LARGEST_FETCH_BYTES
) -> list[Data | str]:
    """Return for each key its data, or one sentence that says why there is none.

    Results are returned up to ``total_limit`` bytes together, but always the first: beyond that the list is
    shorter than ``keys``, and the remaining results were not read.
    """
    fetched: list[Data | str] = []
    left = total_limit
    while (left > 0 or not fetched) and (part := keys[len(fetched) : len(fetched) + _FETCHED_AT_ONCE]):
        # The first statement returns at least one result, however large.
        numbers, names = [number for number, _ in part], [_storable(key) for _, key in part]
        rows = await database.fetch(_SQL.results_within, numbers, names, left)
        whole = list(itertools.takewhile(lambda row: not row["left_out"], rows))
        fetched += [_fetched(key, _found_result(row)) for (_, key), row in zip(part, whole, strict=False)]
        left -= sum(len(row["data"]) for row in whole if row["data"] is not None)
        if len(whole) < len(rows):
            break
    return fetched


def _storable(key: str) -> str:
    """Return the key, or "", which no task has either, for a key with a NUL, which PostgreSQL refuses."""
    return "" if "\0" in key else key


def _fetched(key: str, result: FoundResult | None) -> Data | str:
    if result is None:
        return f"result {key!r} does not exist in this session"
    if result.data is not None:
        return result.data
    if result.status is ResultStatus.DELETED:
        return NeverThere(f"the data of result {key!r} was deleted")
    made = f"owned by task {result.owner_id!r}" if result.owner_id else "to be uploaded by a client"
    return f"result {key!r} is not completed: it is {result.status.name}, {made}"


async def task_failure(database: Database, task_no: int, reason: str | None = None) -> TaskFailure:
    """Return why a task's result was aborted: one entry for each failed attempt, oldest first.

    Args:
        database: The database.
        task_no: Number of the task.
        reason: Reason of an additional last entry, for a task that completed without making the result.
    """
    return (await task_failures(database, [(task_no, reason)]))[0]


async def task_failures(database: Database, tasks: Sequence[tuple[int, str | None]]) -> list[TaskFailure]:
    """Return what ``task_failure`` does for several tasks and reasons, in their order."""
    attempts: dict[int, list[AttemptError]] = {}
    ids: dict[int, str] = {}
    rows = await database.fetch(_SQL.failed_attempts, list({task_no for task_no, _ in tasks}), _LONGEST_STORY)
    by_input = await causes(database, [row["task_no"] for row in rows if row["failed_input"] is not None])
    for row in rows:
        ids[row["task_no"]] = row["task_id"]
        if row["status"] != TaskStatus.COMPLETED:
            detail = by_input[row["task_no"]] if row["failed_input"] is not None else own_reason(row)
            attempts.setdefault(row["task_no"], []).append(AttemptError(as_it_ends(row), detail))
    told = []
    for task_no, reason in tasks:
        without_it = [] if reason is None else [AttemptError(TaskStatus.COMPLETED, reason)]
        told.append(TaskFailure(ids.get(task_no, ""), [*attempts.get(task_no, ()), *without_it]))
    return told
