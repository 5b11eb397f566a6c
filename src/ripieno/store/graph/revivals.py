"""Retries of failed tasks, and the revival of the graph below them, step by step.

A task that failed by itself gets another attempt: it is SUBMITTED again, under its next attempt number, with as many
retries as its options say, and its aborted results are to be made again. Whoever failed only because of one of these
waits again, and so on down the graph. A task with another input that will not come stays failed, and
says that it is because of that one.

The transaction that retries tasks notes the results whose dependents are to be looked at in the table
``pending_revivals``, and takes the first step itself unless there are more tasks to retry; so a small graph is revived
as a whole. Whatever is left is done in further short turns (``store.database.turns``) by the replica that began, or by
another replica if that one has ended (``store.graph.abandoned``). The order of steps does not matter: whether a task
waits again depends on its inputs alone.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ripieno.domain.errors import NotFoundError, SessionCancelledError, SubmissionStoppedError
from ripieno.domain.options import TaskOptions
from ripieno.domain.statuses import TAKES_RETRIES, SessionStatus
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.queries import Queries
from ripieno.store.database.turns import STEP_S
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import KnownSession, Sessions, options_of

SQL = Queries("revivals")
_CANCEL = Queries("cancel")
_CLAIM = Queries("claim")
_LIVES = Queries("lives")

_STEP_MS = int(STEP_S * 1000)

#: Tasks of a session that are looked at in one statement.
_PAGE = 2_000

#: The most that one step has to do when it retries tasks, whatever ``Turns.size`` allows (measured: 250 tasks, 30 ms).
_LARGEST_PART = 2_000


#: Function that returns the options that a task is to have in place of those that it has.
Change = Callable[[TaskOptions], TaskOptions]


class FailedTask(NamedTuple):
    """A task that failed by itself.

    Attributes:
        task_no: Number of the task.
        options_no: Number of its options.
        weight: How much there is to do when it is retried, for the task, its inputs and its results, in the units of
            ``Turns.size``.
    """

    task_no: int
    options_no: int
    weight: int


@dataclass(slots=True)
class Revived:
    """What one or several steps have done.

    Attributes:
        retried: Numbers of the tasks that get another attempt.
        dependents: How many tasks below them wait again.
        changes: The changes, for whoever waits for them.
    """

    retried: list[int] = field(default_factory=list)
    dependents: int = 0
    changes: Changes = field(default_factory=Changes)

    def add(self, other: "Revived") -> None:
        """Add what another step has done."""
        self.retried += other.retried
        self.dependents += other.dependents
        self.changes.add(other.changes)


async def failed_of(database: Database, tasks: Sequence[int]) -> list[FailedTask]:
    """Return those of the tasks with these numbers that failed by themselves."""
    failed: list[FailedTask] = []
    for start in range(0, len(tasks), _PAGE):
        rows = await database.fetch(SQL.failed_of, tasks[start : start + _PAGE])
        failed += [FailedTask(row["task_no"], row["options_no"], row["weight"]) for row in rows]
    return failed


async def failed_in_session(database: Database, session_no: int) -> AsyncIterator[tuple[list[FailedTask], list[int]]]:
    """Yield the failed tasks of a session that were submitted before the call, a page at a time.

    Yields:
        The tasks of a page that failed by themselves, and the numbers of those that failed for want of an input.
    """
    newest = await database.fetchrow(_CANCEL.newest_task)
    assert newest is not None  # a sequence has one row
    reached, looked_at = 0, _PAGE
    while looked_at == _PAGE:
        async with database.long_lists:
            page = await database.fetchrow(SQL.failed_in_session, session_no, reached, _PAGE, newest["task_no"])
        assert page is not None  # an aggregate always has a row
        reached, looked_at = page["last_no"], page["looked_at"]
        columns = zip(page["numbers"], page["options_nos"], page["weights"], strict=True)
        yield [FailedTask(*each) for each in columns], page["for_want_of_input"]


async def with_changes(
    database: Database, sessions: Sessions, session: KnownSession, tasks: Sequence[FailedTask], changed: Change
) -> list[FailedTask]:
    """Return tasks with the numbers of the options that they are to have, which are stored if they are new.

    Args:
        database: The database.
        sessions: Stores options.
        session: The session of the tasks.
        tasks: The tasks, with the options that they have.
        changed: Returns the options that a task is to have in place of those that it has.

    Raises:
        LimitError: the session would have more sets of options than it may have.
    """
    numbers = sorted({task.options_no for task in tasks})
    instead: dict[int, int] = {}
    for row in await database.fetch(_CLAIM.find_options, numbers):
        known = await sessions.intern_options(session, changed(options_of(row)))
        instead[row["options_no"]] = known.options_no
    return [task._replace(options_no=instead[task.options_no]) for task in tasks]


async def present(database: Database) -> datetime:
    """Return the time by the database's clock."""
    row = await database.fetchrow(SQL.present)
    assert row is not None  # a constant has one row
    time: datetime = row["present"]
    return time


async def still_failed(database: Database, tasks: Sequence[int], before: datetime) -> dict[int, str]:
    """Return the ids of those of the tasks that failed before a time, and have not waited since, by number."""
    left: dict[int, str] = {}
    for start in range(0, len(tasks), _PAGE):
        rows = await database.fetch(SQL.still_failed, tasks[start : start + _PAGE], before)
        left |= {row["task_no"]: row["id"] for row in rows}
    return left


async def retry_tasks(
    database: Database, session: KnownSession, tasks: Sequence[FailedTask], *, delayed: bool = False
) -> AsyncIterator[Revived]:
    """Give tasks of a session another attempt; durable at the end. The graph below them may not be revived as a whole.

    A task that does not stand in ERROR or TIMEOUT any more, or has an input that will not come, is left as it is.

    Args:
        database: The database.
        session: The session of the tasks.
        tasks: The tasks, each with the number of the options that it is to have.
        delayed: Whether the delay of those options counts anew, from now on.

    Yields:
        What each step has done.

    Raises:
        NotFoundError: the session was deleted.
        SubmissionStoppedError: the session was purged; or it was cancelled, and with it what former steps have done.
    """
    parts = list(_parts(tasks, min(database.turns.size, _LARGEST_PART)))
    for place, part in enumerate(parts):

        async def write(connection: Connection, part: Sequence[FailedTask] = part) -> Revived:
            revived = await _retry(connection, session, part, delayed=delayed)
            if len(parts) == 1:  # the graph below is revived in the same transaction, if it is small
                room = database.turns.size - sum(task.weight for task in part)
                revived.add(await _revive(connection, session.session_no, max(room, 1)))
            else:  # whoever waits for many of these tasks is looked at once, when all are retried
                revived.changes.revivals.add(session.session_no)
            return revived

        yield await database.turns.take(
            database, [session.session_no], write, goes_on=place > 0, incarnation=session.incarnation
        )


async def _retry(
    connection: Connection, session: KnownSession, tasks: Sequence[FailedTask], *, delayed: bool
) -> Revived:
    numbers, options_nos = [task.task_no for task in tasks], [task.options_no for task in tasks]
    row = await connection.fetchrow(SQL.retry_tasks, session.session_no, numbers, options_nos, delayed)
    if row is None:
        raise NotFoundError(f"session {session.id!r} was deleted")
    status = SessionStatus(row["session_status"])
    if status is SessionStatus.CANCELLED:
        raise SessionCancelledError(session.id)
    if status not in TAKES_RETRIES:
        raise SubmissionStoppedError(session.id, f"is {status.name}")
    # Deadlines that were set may be due before all others: 0 stands for a look at the next one.
    changes = Changes(partitions=set(row["claimable"]), due_in_s=0.0 if row["timed"] else None)
    if row["retried"]:
        changes.sessions.add(session.session_no)
        if status is SessionStatus.CLOSED:  # it ends anew, and its results are kept for as long as others
            await connection.execute(_LIVES.not_ended, session.session_no)
    return Revived(row["retried"], 0, changes)


async def step(database: Database, session_no: int, *, goes_on: bool = False) -> Revived:
    """Take one step of the revivals of a session; ``Changes.revivals`` says whether more is left to do.

    A crash of the database may undo the step, which is then done again.

    Args:
        database: The database.
        session_no: Number of the session.
        goes_on: True if a former step of the same work was not enough.
    """

    async def write(connection: Connection) -> Revived:
        return await _revive(connection, session_no, database.turns.size)

    return await database.turns.take(database, [session_no], write, goes_on=goes_on, durable=False)


async def finish(database: Database, sessions: Iterable[int]) -> AsyncIterator[Revived]:
    """Take steps until nothing is left to revive in these sessions; yields what each step has done."""
    for session_no in sorted(sessions):
        revived = await step(database, session_no)
        yield revived
        while revived.changes.revivals:
            revived = await step(database, session_no, goes_on=True)
            yield revived


async def _revive(connection: Connection, session_no: int, most: int) -> Revived:
    row = await connection.fetchrow(SQL.revive_some, session_no, most, _STEP_MS)
    assert row is not None  # a function has one row
    changes = Changes(partitions=set(row["claimable"]))
    if row["revived"]:
        changes.sessions.add(session_no)
        changes.due_in_s = 0.0  # as in ``_retry``
    if not row["finished"]:
        changes.revivals.add(session_no)
    return Revived([], row["revived"], changes)


def _parts(tasks: Sequence[FailedTask], size: int) -> Iterator[list[FailedTask]]:
    """Divide tasks into steps of about ``size``, of one task at least."""
    part: list[FailedTask] = []
    gathered = 0
    for task in tasks:
        if part and gathered + task.weight > size:
            yield part
            part, gathered = [], 0
        part.append(task)
        gathered += task.weight
    if part:
        yield part
