"""Cancellation, in short turns that have the session for themselves (``store.database.turns``).

A task that does not run becomes CANCELLED; a task that runs becomes CANCELLING, and CANCELLED when its agent
says that the worker has ended the attempt. Results of both are aborted in the same transaction, so that no
cancelled task can commit. Dependents of cancelled tasks fail once all tasks to be cancelled are:
until then the table ``pending_cancellations`` keeps the cuts of the session waiting.

A session is first marked as cancelled, after which no task is submitted to it, and no sub-task
is created. The cancellation is noted with the mark: if the replica ends before it is
finished, another replica goes on (``store.graph.abandoned``).
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg

from ripieno.domain.outcomes import Ticket
from ripieno.domain.statuses import SessionStep, TaskStatus
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.gates import MOST_GATES
from ripieno.store.database.queries import Queries
from ripieno.store.graph import cuts
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.lives import take_step

_SQL = Queries("cancel")

UNFINISHED = (TaskStatus.SUBMITTED, TaskStatus.DISPATCHED, TaskStatus.PROCESSING)

_NO_END = (1 << 63) - 1

#: Tasks that are looked up in one statement.
_READ_AT_ONCE = 10_000

#: A session with fewer unfinished tasks shares a step with others.
_SMALL_SESSION = 256


async def cancel_session(
    database: Database, session_no: int, incarnation: int | None = None, cancellation: UUID | None = None
) -> AsyncIterator[Changes]:
    """Cancel a session and its unfinished tasks. Idempotent, durable at the end.

    Args:
        database: The database.
        session_no: Number of the session.
        incarnation: Incarnation that the number is from; None for the present one.
        cancellation: An abandoned cancellation to go on with; None begins a new one.

    Yields:
        The changes of each step.

    Raises:
        NotFoundError: there is no such session.
        SessionStepError: the session was purged.
    """
    sweep = _Sweep(database, session_no, cancellation or uuid4(), incarnation=incarnation)

    async def mark(connection: Connection) -> None:
        await take_step(connection, session_no, SessionStep.CANCEL)
        await connection.execute(_SQL.begin_cancelling, session_no, sweep.cancellation)

    await database.turns.take(database, [session_no], mark, incarnation=incarnation)
    async for changes in sweep.run(cut=False):
        yield changes


async def cancel_sessions_tasks(
    database: Database, sessions: Sequence[int], statuses: Sequence[TaskStatus] = UNFINISHED
) -> AsyncIterator[Changes]:
    """Cancel the unfinished tasks that sessions have at the time of the call and that are in one of the statuses.

    Yields:
        The changes of each step.
    """
    newest = await database.fetchrow(_SQL.newest_task)
    assert newest is not None  # a sequence has one row
    for start in range(0, len(sessions), MOST_GATES):
        some = sessions[start : start + MOST_GATES]
        # Small sessions share a step; a session with ``_SMALL_SESSION`` unfinished tasks or more is swept by itself.
        rows = await database.fetch(
            _SQL.unfinished_of_sessions, some, newest["task_no"], list(statuses), _SMALL_SESSION
        )
        large = {
            session_no
            for session_no, tasks in Counter(row["session_no"] for row in rows).items()
            if tasks >= _SMALL_SESSION
        }
        async for changes in _cancel_found(database, [row for row in rows if row["session_no"] not in large], statuses):
            yield changes
        for session_no in sorted(large):
            sweep = _Sweep(database, session_no, uuid4(), upto=newest["task_no"], statuses=statuses)
            await database.fetch(_SQL.begin_cancellation, [session_no], sweep.cancellation)
            async for changes in sweep.run(cut=True):
                yield changes


async def cancel_tasks(
    database: Database, tasks: Sequence[int], statuses: Sequence[TaskStatus] = UNFINISHED
) -> AsyncIterator[Changes]:
    """Cancel those of the tasks that are in one of the statuses. Idempotent, durable at the end.

    Args:
        database: The database.
        tasks: Numbers of the tasks.
        statuses: Statuses in which tasks are cancelled.

    Yields:
        The changes of each step.
    """
    found: list[asyncpg.Record] = []
    for start in range(0, len(tasks), _READ_AT_ONCE):
        found += await database.fetch(_SQL.unfinished_of, tasks[start : start + _READ_AT_ONCE], list(statuses))
    async for changes in _cancel_found(database, found, statuses):
        yield changes


async def _cancel_found(
    database: Database, found: Iterable[asyncpg.Record], statuses: Sequence[TaskStatus]
) -> AsyncIterator[Changes]:
    cancellation = uuid4()
    parts = list(
        _parts(sorted({(row["session_no"], row["task_no"], row["weight"]) for row in found}), database.turns.size)
    )
    # The cuts of a session that does not fit into one step wait for its last step.
    divided = sorted({part.sessions[0] for part in parts if part.to_be_continued})
    if divided:
        await database.fetch(_SQL.begin_cancellation, divided, cancellation)
    cut_in: set[int] = set()
    for place, part in enumerate(parts):
        changes = await _cancel_part(database, part, cancellation, statuses, goes_on=place > 0)
        cut_in |= changes.cuts
        yield changes
    async for changes in cuts.finish(database, cut_in):
        yield changes


class _Part(NamedTuple):
    """Tasks that are cancelled in one step: all of several sessions, or some of one session that takes more steps."""

    sessions: Sequence[int]
    numbers: Sequence[int]
    to_be_continued: bool = False
    ends: bool = False


def _parts(tasks: Sequence[tuple[int, int, int]], size: int) -> Iterator[_Part]:
    """Divide tasks into steps: small sessions share one, up to ``MOST_GATES``; a large session has steps of its own.

    Args:
        tasks: Session number, task number and weight of each task, in order.
        size: Weight that a step should have at most.
    """
    sessions: list[int] = []
    numbers: list[int] = []
    gathered = 0
    for session_no, group in groupby(tasks, key=lambda task: task[0]):
        own = list(group)
        weight = sum(each for _, _, each in own)
        if numbers and (gathered + weight > size or len(sessions) == MOST_GATES):
            yield _Part(sessions, numbers)
            sessions, numbers, gathered = [], [], 0
        if weight > size and len(own) > 1:
            slices = list(_slices(own, size))
            for place, part in enumerate(slices, 1):
                yield _Part([session_no], part, place < len(slices), place == len(slices))
        else:
            sessions = [*sessions, session_no]
            numbers = numbers + [number for _, number, _ in own]
            gathered += weight
    if numbers:
        yield _Part(sessions, numbers)


def _slices(tasks: Sequence[tuple[int, int, int]], size: int) -> Iterator[list[int]]:
    part: list[int] = []
    gathered = 0
    for _, number, weight in tasks:
        if part and gathered + weight > size:
            yield part
            part, gathered = [], 0
        part.append(number)
        gathered += weight
    yield part


async def _cancel_part(
    database: Database, part: _Part, cancellation: UUID, statuses: Sequence[TaskStatus], *, goes_on: bool
) -> Changes:
    async def write(connection: Connection) -> Changes:
        changes = await _cancel(connection, part.numbers, statuses, cut=True)
        cut_in, changes.cuts = changes.cuts, set()
        if part.to_be_continued:
            await connection.execute(_SQL.go_on, part.sessions, cancellation)
            return changes
        if part.ends:
            await connection.execute(_SQL.end_cancellation, part.sessions, cancellation)
            cut_in = set(part.sessions)
        if cut_in:
            changes.add(await cuts.go_on(connection, cut_in, database.turns.size))
        return changes

    return await database.turns.take(database, part.sessions, write, goes_on=goes_on)


class _Sweep:
    """Cancels all unfinished tasks of a session, step by step, from the lowest number on."""

    def __init__(
        self,
        database: Database,
        session_no: int,
        cancellation: UUID,
        *,
        upto: int = _NO_END,
        statuses: Sequence[TaskStatus] = UNFINISHED,
        incarnation: int | None = None,
    ) -> None:
        self.cancellation = cancellation
        self._database = database
        self._session_no = session_no
        self._upto = upto
        self._statuses = [int(status) for status in statuses if status in UNFINISHED]
        self._incarnation = incarnation
        self._reached = 0
        self._finished = False
        #: Whether the step before was not enough.
        self._goes_on = False

    async def run(self, *, cut: bool) -> AsyncIterator[Changes]:
        """Take steps until nothing is left, then fail the dependents if ``cut``; yields the changes of each step."""
        while not self._finished:
            yield await self._database.turns.take(
                self._database, [self._session_no], lambda connection: self._step(connection, cut),
                goes_on=self._goes_on, incarnation=self._incarnation,
            )  # fmt: skip
        if cut:
            async for changes in cuts.finish(self._database, [self._session_no]):
                yield changes

    async def _step(self, connection: Connection, cut: bool) -> Changes:
        size = self._database.turns.size
        found = await connection.fetchrow(
            _SQL.unfinished_tasks, self._session_no, self._reached, self._upto, self._statuses, size
        )
        assert found is not None  # an aggregate always has a row
        numbers: list[int] = found["numbers"]
        self._finished = not numbers
        self._goes_on = found["more"]
        if not numbers and not cut:  # the whole session: nobody uploads its results any more
            changes = await _abort_unowned(connection, self._session_no, size)
            self._finished = not changes.aborted
            self._goes_on = bool(changes.aborted)
            if changes.aborted:
                await connection.execute(_SQL.go_on, [self._session_no], self.cancellation)
                return changes
        if self._finished:
            await connection.execute(_SQL.end_cancellation, [self._session_no], self.cancellation)
            return Changes()
        if found["waiting"]:
            self._reached = max(numbers)
        await connection.execute(_SQL.go_on, [self._session_no], self.cancellation)
        changes = await _cancel(connection, numbers, self._statuses, cut=cut)
        changes.cuts.clear()  # dependents fail once everything is cancelled, not before
        return changes


async def _cancel(connection: Connection, numbers: Sequence[int], statuses: Sequence[int], *, cut: bool) -> Changes:
    row = await connection.fetchrow(_SQL.cancel_numbered, numbers, list(statuses), cut)
    assert row is not None  # a function has one row
    return changes_of_cancelled(row)


async def _abort_unowned(connection: Connection, session_no: int, most: int) -> Changes:
    """Abort results that clients have created and nobody has uploaded; those who wait for them are cancelled."""
    row = await connection.fetchrow(_SQL.abort_unowned, session_no, most)
    assert row is not None  # a function has one row
    changes = Changes()
    if row["aborted"]:
        changes.sessions.add(session_no)
        changes.add_aborted((session_no, key) for key in row["aborted"])
    return changes


def changes_of_cancelled(row: asyncpg.Record) -> Changes:
    """Return the changes of tasks that were cancelled, or ended at their deadline, from the row that says so."""
    changes = Changes(sessions=set(row["sessions"]), stopped=set(row["sessions"]), cuts=set(row["cut_in"]))
    changes.add_aborted(zip(row["aborted_sessions"], row["aborted_keys"], strict=True))
    held = zip(row["held_agents"], row["held_nos"], row["held_sessions"], row["held_claims"], strict=True)
    changes.cancelled = [
        (agent_no, Ticket(task_no, session_no, claim)) for agent_no, task_no, session_no, claim in held
    ]
    return changes
