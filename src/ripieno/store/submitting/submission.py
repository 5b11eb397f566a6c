"""Submission of tasks by clients: atomic for each call, durable when it returns.

Calls that arrive while others are being written share one transaction (``submit`` takes
several at once). If any of them clashes, the transaction is rolled back and each call is
tried alone, so that one caller's fault is never another's.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import asyncpg

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import (
    ConflictError,
    InvalidRequestError,
    InvariantError,
    NotFoundError,
    RipienoError,
    SessionCancelledError,
    SubmissionStoppedError,
)
from ripieno.domain.outcomes import Ticket
from ripieno.domain.statuses import TAKES_TASKS, SessionStatus
from ripieno.domain.submission import NewTask
from ripieno.store.attempts.claim import Claimed, random_claims
from ripieno.store.attempts.portions import portions
from ripieno.store.database.database import Connection, Database, NotPlainError
from ripieno.store.database.gates import MOST_GATES, gates
from ripieno.store.database.literals import array_literal
from ripieno.store.graph import cuts
from ripieno.store.graph.creation import SQL, PlannedTask, create_tasks, task_numbers
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import KnownOptions, KnownSession

#: The dependencies of a task without any, in a call where other tasks have some.
_NO_NEED = (None,)


@dataclass(frozen=True, slots=True)
class SubmissionCall:
    """One call of a client that submits tasks, with session and options resolved.

    Attributes:
        own_options: The options of each task, where they are not the same for all.
    """

    session: KnownSession
    options: KnownOptions
    tasks: Sequence[NewTask]
    own_options: Sequence[KnownOptions] | None = None

    @property
    def options_of_tasks(self) -> Iterable[KnownOptions]:
        """The options of each task, in order."""
        return repeat(self.options, len(self.tasks)) if self.own_options is None else self.own_options

    @property
    def urgency(self) -> set[tuple[str, int]]:
        """The partitions to which the tasks go, each with the priorities that they have there."""
        distinct = [self.options] if self.own_options is None else self.own_options
        return {(known.options.partition, known.options.priority) for known in distinct}

    @property
    def is_inline(self) -> bool:
        """Whether all payloads come with the tasks, inline."""
        return all(isinstance(task.payload, bytes) and task.payload_key is None for task in self.tasks)

    @property
    def inline_bytes(self) -> int:
        """The bytes of all inline payloads of the call."""
        return sum(len(task.payload) for task in self.tasks if isinstance(task.payload, bytes))

    @property
    def sets_timers(self) -> bool:
        """Whether a task of the call may have a timer, so that it is not written in the plain way."""
        if self.own_options is None:
            return self.options.options.sets_timer
        return any(known.options.sets_timer for known in self.own_options)

    @property
    def is_free(self) -> bool:
        """Whether no task of the call has dependencies; a payload that is a result is one."""
        return not any(task.data_dependencies or task.payload_key is not None for task in self.tasks)


async def submit(database: Database, calls: Sequence[SubmissionCall]) -> tuple[list[RipienoError | None], Changes]:
    """Create the tasks of each call, all of a call's tasks or none.

    Idempotent by ids: a call that is identical to one that succeeded changes nothing.

    Returns:
        For each call the error that refused it, or None if it is done and durable; and the changes.
    """
    faults: list[RipienoError | None] = []
    changes = Changes()
    for portion in portions(calls, lambda call: call.session.session_no, lambda call: call.inline_bytes):
        try:
            refused, changed = await _submit_portion(database, portion)
        except RipienoError as error:
            if not faults:
                raise
            refused, changed = [error] * len(portion), Changes()  # former portions are done, and must be reported
        faults += refused
        changes.add(changed)
    return faults, changes


async def _submit_portion(
    database: Database, calls: Sequence[SubmissionCall]
) -> tuple[list[RipienoError | None], Changes]:
    try:
        return [None] * len(calls), await _submit_together(database, calls)
    except NotFoundError as error:
        if len(calls) == 1:
            return [error], Changes()
    except ConflictError as error:
        if len(calls) == 1:
            retried = await _is_identical(database, calls[0])
            return [None if retried else error], Changes()
    except (InvalidRequestError, InvariantError):  # one of the calls is at fault, and the others are not
        if len(calls) == 1:
            raise
    faults: list[RipienoError | None] = []
    changes = Changes()
    for call in calls:
        try:
            [fault], changed = await _submit_portion(database, [call])
        except RipienoError as error:  # former calls are done, and must be reported
            faults.append(error)
        else:
            faults.append(fault)
            changes.add(changed)
    return faults, changes


async def _submit_together(database: Database, calls: Sequence[SubmissionCall]) -> Changes:
    if all(call.is_inline and not call.sets_timers for call in calls):
        try:
            return await _submit_plain(database, calls)
        except NotPlainError:
            pass  # nothing has happened; the careful way finds what clashes
    return await database.transaction(
        partial(_write, calls=calls),
        opening=gates(call.session.session_no for call in calls),
        incarnation=_incarnation(calls),
    )


async def submit_and_claim(
    database: Database, calls: Sequence[SubmissionCall], agents: Sequence[int]
) -> tuple[Changes, list[Claimed]]:
    """Submit tasks without dependencies and claim them as they are created, the i-th for the i-th agent.

    So a lone task on an idle cluster is on its way to a worker after one transaction.

    Raises:
        NotPlainError: nothing happened; submit the calls without claiming their tasks.
        UnavailableError: the database cannot be reached; submit the same calls again.
        OutcomeUnknownError: the database went away during the call; submit the same calls again.
    """
    if len({call.session.session_no for call in calls}) > MOST_GATES or any(call.sets_timers for call in calls):
        raise NotPlainError
    first_claim = random_claims()
    numbers = await _call_plain(database, calls, agents, first_claim)
    tasks = [
        (call, known, task) for call in calls for known, task in zip(call.options_of_tasks, call.tasks, strict=True)
    ]
    claimed = [
        Claimed(
            Ticket(task_no, call.session.session_no, first_claim + place),
            agent_no,
            task.id,
            0,
            known.options_no,
            task.expected_output_keys,
            (),
            task.payload,
        )
        for place, (task_no, agent_no, (call, known, task)) in enumerate(zip(numbers, agents, tasks, strict=True), 1)
    ]
    return Changes({call.session.session_no for call in calls}, created=_created(calls)), claimed


async def _submit_plain(database: Database, calls: Sequence[SubmissionCall]) -> Changes:
    await _call_plain(database, calls, (), 0)
    partitions = {partition for call in calls for partition, _ in call.urgency}
    return Changes({call.session.session_no for call in calls}, partitions, created=_created(calls))


def _created(calls: Sequence[SubmissionCall]) -> dict[int, list[str]]:
    """Return the expected outputs of calls in the plain case, in which all of them are new."""
    created: dict[int, list[str]] = {}
    for call in calls:
        created.setdefault(call.session.session_no, []).extend(
            [key for task in call.tasks for key in task.expected_output_keys]
        )
    return created


async def _call_plain(
    database: Database, calls: Sequence[SubmissionCall], claimants: Sequence[int], first_claim: int
) -> list[int]:
    """Submit calls in one round trip if nothing clashes; phases and checks are those of ``_write``."""
    tasks = [task for call in calls for task in call.tasks]
    needs: list[tuple[str | None, int]] = []
    if any(task.data_dependencies for task in tasks):
        needs = [
            (key, place)
            for place, task in enumerate(tasks, 1)
            for key in dict.fromkeys(task.data_dependencies or _NO_NEED)
        ]
    sizes = dict.fromkeys(sorted({call.session.session_no for call in calls}), 0)
    for call in calls:
        sizes[call.session.session_no] += call.inline_bytes
    numbers: list[int] = await database.call_plain(
        SQL.submit_plain,
        list(sizes),
        list(sizes.values()),
        [known.options_no for call in calls for known in call.options_of_tasks],
        [task.id for task in tasks],
        [array_literal(task.expected_output_keys) for task in tasks],
        [array_literal(task.data_dependencies) for task in tasks],
        [len(task.expected_output_keys) for task in tasks],
        [task.payload for task in tasks],
        [key for task in tasks for key in task.expected_output_keys],
        [place for place, task in enumerate(tasks, 1) for _ in task.expected_output_keys],
        [key for key, _ in needs],
        [place for _, place in needs],
        claimants,
        first_claim,
        incarnation=_incarnation(calls),
    )
    return numbers


def _incarnation(calls: Sequence[SubmissionCall]) -> int:
    """Return the incarnation that the calls' sessions are from; of several the oldest, which is refused as stale."""
    return min(call.session.incarnation for call in calls)


async def _write(connection: Connection, calls: Sequence[SubmissionCall]) -> Changes:
    sessions = {call.session.session_no: call.session.id for call in calls}
    paused = await _paused(connection, sessions)
    numbers = await task_numbers(connection, sum(len(call.tasks) for call in calls))
    next_number = iter(numbers).__next__
    planned = [
        PlannedTask(next_number(), call.session.session_no, known, task, parked=call.session.session_no in paused)
        for call in calls
        for known, task in zip(call.options_of_tasks, call.tasks, strict=True)
    ]
    created = await create_tasks(connection, planned)
    changes = Changes(
        sessions=set(sessions),
        partitions={task.options.options.partition for task in planned if not task.parked},
        due_in_s=created.due_in_s,
    )
    if created.aborted:
        changes.add(await cuts.begin(connection, created.aborted))
    return changes


async def _paused(connection: Connection, sessions: Mapping[int, str]) -> set[int]:
    """Return which of the sessions, whose gates are held, are paused.

    Raises:
        NotFoundError: one of them was deleted.
        SubmissionStoppedError: one of them takes no more tasks of clients.
    """
    rows = {row["session_no"]: row for row in await connection.fetch(SQL.takers, list(sessions))}
    for session_no, session_id in sessions.items():
        if session_no not in rows:
            raise NotFoundError(f"session {session_id!r} was deleted")
        status = SessionStatus(rows[session_no]["status"])
        if status is SessionStatus.CANCELLED:
            raise SessionCancelledError(session_id)
        if status not in TAKES_TASKS:
            raise SubmissionStoppedError(session_id, f"is {status.name}")
        if not rows[session_no]["client_submission"]:
            raise SubmissionStoppedError(session_id, "takes no more tasks of clients")
    return {session_no for session_no, row in rows.items() if row["status"] == SessionStatus.PAUSED}


async def _is_identical(database: Database, call: SubmissionCall) -> bool:
    """Whether exactly this call has succeeded before."""
    rows = await database.fetch(SQL.existing_tasks, [task.id for task in call.tasks])
    existing = {row["id"]: row for row in rows}
    return all(
        task.id in existing and _matches(call, known, task, existing[task.id])
        for known, task in zip(call.options_of_tasks, call.tasks, strict=True)
    )


def _matches(call: SubmissionCall, known: KnownOptions, task: NewTask, row: asyncpg.Record) -> bool:
    return (
        row["session_no"] == call.session.session_no
        and row["options_no"] == known.options_no
        and row["expected_output_keys"] == list(task.expected_output_keys)
        and row["data_dependencies"] == list(task.data_dependencies)
        and row["payload_key"] == task.payload_key
        and (task.payload_key is not None or _same_data(task.payload, row))
    )


def _same_data(payload: Data, row: asyncpg.Record) -> bool:
    if isinstance(payload, bytes) and row["data"] is not None:
        return bool(row["data"] == payload)
    digest = payload.sha256 if isinstance(payload, StoredObject) else hashlib.sha256(payload).digest()
    stored = row["sha256"] if row["data"] is None else hashlib.sha256(row["data"]).digest()
    return bool(digest == stored)
