"""Submission of tasks by clients: atomic for each call, durable when it returns.

Calls that arrive while others are being written share one transaction (``submit`` takes
several at once). If any of them clashes, the transaction is rolled back and each call is
tried alone, so that one caller's fault is never another's.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import asyncpg

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import ConflictError, RipienoError, SessionCancelledError
from ripieno.domain.submission import NewTask
from ripieno.store import graph
from ripieno.store.changes import Changes
from ripieno.store.creation import SQL, CutNeededError, PlannedTask, create_tasks
from ripieno.store.database import Connection, Database, NotPlainError, array_literal
from ripieno.store.gates import gates
from ripieno.store.sessions import KnownOptions, KnownSession


_NONE = (None,)


@dataclass(frozen=True, slots=True)
class SubmissionCall:
    """One call, its names resolved."""

    session: KnownSession
    options: KnownOptions
    tasks: Sequence[NewTask]


async def submit(database: Database, calls: Sequence[SubmissionCall]) -> tuple[list[RipienoError | None], Changes]:
    """Create the tasks of each call, all of a call's tasks or none.

    Idempotent by ids: a call that is identical to one that succeeded changes nothing.

    Returns:
        For each call what kept it from happening, None where it is done and durable; and
        what has changed.
    """
    try:
        return [None] * len(calls), await _submit_together(database, calls)
    except ConflictError as error:
        if len(calls) == 1:
            retried = await _is_identical(database, calls[0])
            return [None if retried else error], Changes()
    faults: list[RipienoError | None] = []
    changes = Changes()
    for call in calls:
        [fault], changed = await submit(database, [call])
        faults.append(fault)
        changes.add(changed)
    return faults, changes


async def _submit_together(database: Database, calls: Sequence[SubmissionCall]) -> Changes:
    if all(isinstance(task.payload, bytes) for call in calls for task in call.tasks):
        try:
            return await _submit_plain(database, calls)
        except NotPlainError:
            pass  # nothing has happened; what clashes is found out step by step
    exclusive: frozenset[int] = frozenset()
    while True:
        try:
            return await database.transaction(
                partial(_write, calls=calls, exclusive=exclusive),
                opening=gates({call.session.session_no for call in calls}, exclusive),
            )
        except CutNeededError as needed:
            exclusive |= needed.sessions


async def _submit_plain(database: Database, calls: Sequence[SubmissionCall]) -> Changes:
    """Nothing clashes, as a rule: one round trip. Phases and checks are those of ``_write``."""
    sessions = {call.session.session_no for call in calls}
    tasks = [task for call in calls for task in call.tasks]
    needs = [
        (key, place)
        for place, task in enumerate(tasks, 1)
        for key in dict.fromkeys(task.data_dependencies or _NONE)
    ] if any(task.data_dependencies for task in tasks) else []
    await database.call_plain(
        SQL.submit_plain,
        sorted(sessions),
        [number for call in calls for number in repeat(call.options.options_no, len(call.tasks))],
        [task.id for task in tasks],
        [array_literal(task.expected_output_keys) for task in tasks],
        [array_literal(task.data_dependencies) for task in tasks],
        [len(task.expected_output_keys) for task in tasks],
        [task.payload for task in tasks],
        [key for task in tasks for key in task.expected_output_keys],
        [place for place, task in enumerate(tasks, 1) for _ in task.expected_output_keys],
        [key for key, _ in needs],
        [place for _, place in needs],
    )
    return Changes(sessions, {call.options.options.partition for call in calls})


async def _write(connection: Connection, calls: Sequence[SubmissionCall], exclusive: frozenset[int]) -> Changes:
    sessions = {call.session.session_no: call.session.id for call in calls}
    opened = await connection.fetchrow(SQL.open_submission, sum(len(call.tasks) for call in calls), list(sessions))
    assert opened is not None  # it has one row always
    if opened["cancelled"] is not None:
        raise SessionCancelledError(sessions[opened["cancelled"]])
    next_number = iter(opened["numbers"]).__next__
    planned = [
        PlannedTask(next_number(), call.session.session_no, call.options, task) for call in calls for task in call.tasks
    ]
    aborted = await create_tasks(connection, planned)
    changes = Changes(
        sessions=set(sessions),
        partitions={task.options.options.partition for task in planned},
    )
    if aborted:
        if outside := {session_no for session_no, _ in aborted} - exclusive:
            raise CutNeededError(outside)
        changes.add(await graph.cut(connection, aborted))
    return changes


async def _is_identical(database: Database, call: SubmissionCall) -> bool:
    """Whether exactly this call has succeeded before."""
    rows = await database.fetch(SQL.existing_tasks, [task.id for task in call.tasks])
    existing = {row["id"]: row for row in rows}
    return all(task.id in existing and _matches(call, task, existing[task.id]) for task in call.tasks)


def _matches(call: SubmissionCall, task: NewTask, row: asyncpg.Record) -> bool:
    return (
        row["session_no"] == call.session.session_no
        and row["options_no"] == call.options.options_no
        and row["expected_output_keys"] == list(task.expected_output_keys)
        and row["data_dependencies"] == list(task.data_dependencies)
        and _same_data(task.payload, row)
    )


def _same_data(payload: Data, row: asyncpg.Record) -> bool:
    if isinstance(payload, bytes) and row["data"] is not None:
        return bool(row["data"] == payload)
    digest = payload.sha256 if isinstance(payload, StoredObject) else hashlib.sha256(payload).digest()
    stored = row["sha256"] if row["data"] is None else hashlib.sha256(row["data"]).digest()
    return bool(digest == stored)
