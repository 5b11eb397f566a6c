"""Explanations: why a task is where it is, found in a few statements that are bounded each.

All statements of one explanation see one state of the database. They run in the sessions of lists, within their time,
with generic plans that go through indexes as on the hot paths: none of them reads more of a session than the task's own
inputs and outputs, and a bounded part of the line before it.
"""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from ripieno.domain.errors import NotFoundError
from ripieno.domain.explanations import (
    MOST_AHEAD,
    MOST_ATTEMPTS,
    MOST_NAMED,
    About,
    AttemptTold,
    Cancelled,
    Cancelling,
    ChainLink,
    Deadline,
    Done,
    Explanation,
    Failed,
    HandedOver,
    InputFailed,
    MissingInput,
    NotServed,
    OutputMissing,
    Running,
    SessionStands,
    WaitsForInputs,
    WaitsForSlot,
    WaitsForTime,
)
from ripieno.domain.sentences import reason
from ripieno.domain.statuses import TAKES_TASKS, ResultStatus, SessionStatus, TaskStatus
from ripieno.domain.texts import gist
from ripieno.store.database.connections import Connection
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from ripieno.store.reading.lists import Lists
from ripieno.store.reading.lookup import find_tasks
from ripieno.store.reading.reasons import MOST_LINKS, as_it_ends, own_reason

_SQL = Queries("explanations")
_LOOKUP = Queries("lookup")

#: Characters of the first failure's reason.
_LONGEST_CAUSE = 4_000
#: Not in ``sql/``: settings of a transaction. The statements are planned as those of the hot paths are.
_BY_INDEXES = (
    "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off;"
    "set local enable_material = off; set local enable_memoize = off; set local plan_cache_mode = force_generic_plan"
)
#: Kinds of timers (migration 0011), and how the reason begins that a deadline gives a task.
_STARTS, _ENDS, _OF_A_DEADLINE = 1, 2, "its deadline ("
_WAY_OUT = "explain the task again later"


async def explain_task(database: Database, lists: Lists, task_id: str) -> Explanation:
    """Return why a task is where it is.

    Args:
        database: The database.
        lists: Lends the session.
        task_id: The task's id, or that of one of its attempts.

    Raises:
        NotFoundError: there is no such task.
        LimitError: the database takes too long.
        UnavailableError: the database cannot be reached.
    """
    missing = NotFoundError(f"there is no task {task_id!r}; `ripieno task list` shows all")
    found = (await find_tasks(database, [task_id])).get(task_id)
    if found is None:
        raise missing
    async with lists.snapshot(_WAY_OUT) as connection:
        await connection.execute(_BY_INDEXES)
        row = await connection.fetchrow(_SQL.explained_task, found.task_no)
        if row is None:  # its session has just been deleted
            raise missing
        abouts = [
            *await _abouts(connection, found.task_no, row),
            *await _deadline(connection, found.task_no, row),
        ]
        attempts = await _attempts(connection, [found.task_no])
    return Explanation(
        row["id"],
        row["session_id"],
        TaskStatus(row["status"]),
        row["retry"],
        [reason(row["id"], about) for about in abouts],
        attempts,
        row["retry"] + (row["claimed_at"] is not None),
    )


async def _abouts(connection: Connection, task_no: int, row: asyncpg.Record) -> list[About]:
    session = SessionStatus(row["session_status"])
    stands = SessionStands(row["session_id"], session)
    match TaskStatus(row["status"]):
        case TaskStatus.SUBMITTED:
            held_back = [stands] if session is SessionStatus.PAUSED else []
            return [*held_back, *await _waits(connection, task_no, row, stands)]
        case TaskStatus.DISPATCHED:
            lasted = row["asked_at"] - row["claimed_at"]
            return [HandedOver(row["agent"] or "", bool(row["agent_connected"]), row["claimed_at"], lasted)]
        case TaskStatus.PROCESSING:
            since = row["started_at"] or row["claimed_at"]
            limit = timedelta(microseconds=row["max_duration_us"])
            where = (row["agent"] or "", bool(row["agent_connected"]), row["worker"] or "")
            return [Running(*where, since, row["asked_at"] - since, limit)]
        case TaskStatus.CANCELLING:
            by_session = [stands] if session is SessionStatus.CANCELLED else []
            reason = row["detail"] or ""
            return [*by_session, Cancelling(row["agent"] or "", bool(row["agent_connected"]), reason)]
        case TaskStatus.COMPLETED:
            return await _completed(connection, task_no, row)
        case TaskStatus.CANCELLED:
            by_session = [stands] if session is SessionStatus.CANCELLED else []
            return [*by_session, Cancelled(own_reason(row), row["claimed_at"] is not None)]
        case _:
            return [await _failed(connection, task_no, row)]


async def _waits(connection: Connection, task_no: int, row: asyncpg.Record, stands: SessionStands) -> list[About]:
    if row["unmet"]:
        found = await connection.fetch(_SQL.missing_inputs, task_no, MOST_NAMED)
        inputs = [_missing_input(each) for each in found]
        unannounced = any(each.status is ResultStatus.NAMED for each in inputs)
        stuck = [stands] if unannounced and stands.status not in TAKES_TASKS else []
        timers = await connection.fetch(_SQL.timers_told, task_no)
        pauses = [
            WaitsForTime(each["due_at"], each["left_for"], row["retry"]) for each in timers if each["kind"] == _STARTS
        ]
        missing = row["unmet"] - len(pauses)  # a timer counts as one
        needs = [WaitsForInputs(missing, inputs)] if missing > 0 else []
        return [*needs, *stuck, *pauses]
    if stands.status is SessionStatus.PAUSED:
        return []
    partition = row["partition"]
    agents, slots, busy = tuple(await connection.fetchrow(_SQL.slots_of_partition, partition) or (0, 0, 0))
    if not agents:
        served = await connection.fetch(_SQL.served_partitions, MOST_NAMED)
        return [NotServed(partition, [each["partition"] for each in served])]
    ahead = await connection.fetchval(_SQL.place_in_line, partition, row["priority"], task_no, MOST_AHEAD)
    return [WaitsForSlot(partition, agents, slots, busy, min(ahead, MOST_AHEAD))]


async def _deadline(connection: Connection, task_no: int, row: asyncpg.Record) -> list[About]:
    """Return the deadline of a task that may still be ended by it."""
    if TaskStatus(row["status"]).final or row["status"] == TaskStatus.CANCELLING:
        return []
    timers = await connection.fetch(_SQL.timers_told, task_no)
    return [Deadline(each["due_at"], each["left_for"]) for each in timers if each["kind"] == _ENDS]


def _missing_input(row: asyncpg.Record) -> MissingInput:
    owner = None if row["owner_status"] is None else TaskStatus(row["owner_status"])
    return MissingInput(row["key"], ResultStatus(row["status"]), row["owner_id"] or "", owner)


async def _completed(connection: Connection, task_no: int, row: asyncpg.Record) -> list[About]:
    purged = row["session_status"] == SessionStatus.PURGED
    missing = [
        OutputMissing(
            each["key"],
            ResultStatus(each["status"]),
            each["owner_id"] or "" if each["owner_no"] != task_no else "",
            purged,
        )
        for each in await connection.fetch(_SQL.missing_outputs, task_no, MOST_NAMED)
    ]
    took = row["ended_at"] - row["started_at"] if row["started_at"] else None
    return [Done(row["agent"] or "", row["worker"] or "", row["ended_at"], took), *missing]


async def _failed(connection: Connection, task_no: int, row: asyncpg.Record) -> About:
    if row["failed_input"] is None:
        attempts = row["retry"] + (row["claimed_at"] is not None)
        limit = timedelta(microseconds=row["max_duration_us"])
        reason = own_reason(row)
        return Failed(TaskStatus(row["status"]), attempts, reason, limit, reason.startswith(_OF_A_DEADLINE))
    links = await connection.fetch(_LOOKUP.causes, [task_no], MOST_LINKS, _LONGEST_CAUSE)
    chain = [ChainLink(each["id"], as_it_ends(each), each["input"] or "") for each in links]
    root, root_no = links[-1], row["root_no"]
    retried_since = any(each["retried_since"] for each in links)
    attempts_total = await connection.fetchval(_SQL.attempts_had, root_no)
    return InputFailed(
        chain,
        root["place"] > MOST_LINKS,
        "" if retried_since else own_reason(root),
        retried_since,
        await _attempts(connection, [root_no]),
        attempts_total or 0,
    )


async def _attempts(connection: Connection, tasks: Sequence[int]) -> list[AttemptTold]:
    rows = await connection.fetch(_SQL.attempts_told, tasks, MOST_ATTEMPTS)
    return [
        AttemptTold(
            row["retry"],
            TaskStatus(row["status"]),
            row["agent"] or "",
            row["worker"] or "",
            row["claimed_at"],
            row["started_at"],
            row["ended_at"],
            gist(own_reason(row)),
        )
        for row in rows
    ]
