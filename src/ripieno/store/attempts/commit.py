"""The commit: outcomes, results, sub-tasks, delegations and dependents, in one transaction.

Outcomes of many attempts share a transaction, and become visible together. If very many tasks depend on them,
those that the transaction does not promote or fail itself wait
for later steps, which it notes (``store.graph.promotions``, ``store.graph.cuts``). An outcome whose claim no
longer owns its task changes nothing (INV-5). Committing the same outcome twice is harmless: the
second time its claim owns nothing.

The order of locks is that of ``ripieno.store``: gates, own states, keys (new ones,
then existing ones), new tasks, dependents.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import AlreadyExistsError, ConflictError, InvariantError, LimitError, NotFoundError
from ripieno.domain.options import PARKED_PARTITION
from ripieno.domain.outcomes import Completed, Completions, Failed, Failure, Outcome, Ticket
from ripieno.domain.statuses import TaskStatus
from ripieno.store.attempts.blobs import BlobNumbers
from ripieno.store.attempts.outputs import COMMIT_PLAIN_WITH_OUTPUTS, keep_outputs, printed_columns
from ripieno.store.attempts.plan import Ended, Plan, ended_columns, judged, may_conflict, plan_of
from ripieno.store.attempts.portions import fits, portions_of_outcomes
from ripieno.store.database.database import Connection, Database, NotPlainError
from ripieno.store.database.gates import gates
from ripieno.store.database.queries import Queries
from ripieno.store.graph import cuts, graph, promotions
from ripieno.store.graph.creation import (
    Created,
    Key,
    PlannedTask,
    create_tasks,
    link_objects,
    lock_open_keys,
    task_numbers,
)
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.counts import Tally
from ripieno.store.sessions.sessions import KnownOptions, Sessions

_SQL = Queries("commit")


class Committer:
    """Commits outcomes of attempts.

    Args:
        database: The database.
        sessions: Resolves the options of sub-tasks.
    """

    def __init__(self, database: Database, sessions: Sessions) -> None:
        self._database = database
        self._sessions = sessions
        self._numbers = BlobNumbers(database)

    async def commit(self, outcomes: Sequence[Outcome]) -> tuple[Changes, list[Ticket]]:
        """Commit, durably, those outcomes whose claim still owns its task.

        Outcomes are committed together as far as they fit into one portion (``store.attempts.portions``); one outcome
        is never divided.

        Returns:
            The changes, and the tickets that own their task no more.

        Raises:
            UnavailableError: the database cannot be reached; commit the same outcomes again.
            OutcomeUnknownError: the database went away during the commit; commit the same outcomes again.
        """
        changes, lost = Changes(), []
        for portion in portions_of_outcomes(outcomes):
            plain = Completions.of(portion)
            changed, refused = await (self._commit_apart(portion) if plain is None else self._commit_columns(plain))
            changes.add(changed)
            lost += refused
        return changes, lost

    async def _commit_apart(self, outcomes: Sequence[Outcome]) -> tuple[Changes, list[Ticket]]:
        """Commit outcomes together if nothing clashes, else those that can clash one by one after the others."""
        try:
            return await self._commit_together(outcomes)
        except (AlreadyExistsError, LimitError) as error:  # another attempt would be refused, too
            if len(outcomes) == 1:
                clash = Failed(Failure.OUTPUT, f"its sub-tasks were refused: {error.detail}")
                return await self._commit_together([outcomes[0]._replace(how=clash)])
        except ConflictError as error:
            if len(outcomes) == 1:
                gone = Failed(Failure.ATTEMPT, error.detail)
                return await self._commit_together([outcomes[0]._replace(how=gone)])
        others = [outcome for outcome in outcomes if not may_conflict(outcome)]
        changes, lost = await self._commit_together(others) if others else (Changes(), [])
        # In the order in which their sub-tasks would be numbered if they were committed together.
        for suspect in sorted(filter(may_conflict, outcomes), key=lambda outcome: outcome.ticket.task_no):
            changed, refused = await self._commit_apart([suspect])
            changes.add(changed)
            lost += refused
        return changes, lost

    async def _commit_together(self, outcomes: Sequence[Outcome]) -> tuple[Changes, list[Ticket]]:
        incarnation = self._database.incarnation
        options = await self._options_of_sub_tasks(outcomes)
        blob_numbers = await self._numbers.take(
            sum(len(outcome.how.results) for outcome in outcomes if isinstance(outcome.how, Completed))
        )
        flush = _Flush(outcomes, options, blob_numbers)
        opening = gates(outcome.ticket.session_no for outcome in outcomes)
        return await self._database.transaction(flush.write, opening=opening, incarnation=incarnation)

    async def commit_completions(self, attempts: Completions) -> tuple[Changes, list[Ticket]]:
        """Do what ``commit`` does for attempts that completed and did nothing else, usually in one round trip."""
        if not fits(attempts):
            return await self.commit(attempts.outcomes())
        return await self._commit_columns(attempts)

    async def _commit_columns(self, attempts: Completions) -> tuple[Changes, list[Ticket]]:
        try:
            return await self._commit_plain(attempts), []
        except NotPlainError:  # nothing has happened; the careful way finds what clashes
            return await self._commit_apart(attempts.outcomes())

    async def _commit_plain(self, attempts: Completions) -> Changes:
        sessions = set(attempts.session_nos)
        incarnation = self._database.incarnation
        numbers = await self._numbers.take(len(attempts.keys))
        inline_nos, inline, objects = _apart(numbers, attempts.data)
        partitions = await self._database.call_plain(
            COMMIT_PLAIN_WITH_OUTPUTS if attempts.outputs else _SQL.commit_plain,
            *_sizes_of_sessions(attempts, sessions),
            attempts.task_nos,
            attempts.claims,
            attempts.session_nos,
            attempts.started_at_us,
            attempts.workers,
            attempts.result_places(),
            attempts.keys,
            numbers,
            inline_nos,
            inline,
            [number for number, _ in objects],
            [stored.name for _, stored in objects],
            [stored.size for _, stored in objects],
            [stored.sha256 for _, stored in objects],
            *(printed_columns(attempts) if attempts.outputs else ()),
            incarnation=incarnation,
        )
        changes = Changes(sessions, set(partitions) - {PARKED_PARTITION})
        if len(sessions) == 1:
            changes.ended[attempts.session_nos[0]] = list(attempts.task_nos)
        else:
            changes.add_ended(zip(attempts.session_nos, attempts.task_nos, strict=True))
        if len(sessions) == 1 and attempts.keys:
            changes.completed[attempts.session_nos[0]] = dict(zip(attempts.keys, attempts.data, strict=True))
        else:
            for place, key, data in zip(attempts.result_places(), attempts.keys, attempts.data, strict=True):
                changes.add_completed(attempts.session_nos[place - 1], key, data)
        return changes

    async def _options_of_sub_tasks(self, outcomes: Sequence[Outcome]) -> dict[tuple[int, int], KnownOptions]:
        """Return the stored options of each batch of sub-tasks, by task number and place of the batch."""
        known = {}
        for outcome in outcomes:
            if isinstance(outcome.how, Completed) and outcome.how.sub_tasks:
                with suppress(NotFoundError):  # a deleted session: the ticket owns nothing any more
                    session = await self._sessions.by_number(outcome.ticket.session_no)
                    for place, batch in enumerate(outcome.how.sub_tasks):
                        options = await self._sessions.intern_options(session, batch.options)
                        known[outcome.ticket.task_no, place] = options
        return known


@dataclass(frozen=True, slots=True)
class _Flush:
    """The outcomes that one transaction commits, and what it needs for them."""

    outcomes: Sequence[Outcome]
    options: dict[tuple[int, int], KnownOptions]
    blob_numbers: Sequence[int]

    async def write(self, connection: Connection) -> tuple[Changes, list[Ticket]]:
        """Write the outcomes in the transaction of ``connection``, which holds the gates already."""
        ended, lost = await self._lock_own(connection)
        changes = Changes(sessions={each.row["session_no"] for each in ended})
        changes.add_ended((each.row["session_no"], each.task_no) for each in ended)
        if not ended:
            return changes, lost
        await keep_outputs(connection, ended)
        plan = plan_of(ended, self.options)
        if plan.sub_tasks:
            numbers = await task_numbers(connection, len(plan.sub_tasks))
            plan.sub_tasks = [
                task._replace(task_no=number) for task, number in zip(plan.sub_tasks, numbers, strict=True)
            ]
        to_cut, changes.due_in_s = await self._write_tasks(connection, plan)
        awaited = await self._write_outcomes(connection, plan)
        if plan.aborting:
            aborted = await graph.abort_outputs(connection, plan.aborting)
            changes.add_aborted(aborted)
            to_cut |= {key: 0 for key, somebody_waits in aborted.items() if somebody_waits}
        if again := [each for each in ended if each.retried]:
            changes.add(await _retry(connection, again))
        if awaited:
            changes.add(await promotions.begin(connection, awaited))
        for (session_no, key), (_, data) in plan.produced.items():
            changes.add_completed(session_no, key, data)
        if to_cut:
            changes.add(await cuts.begin(connection, to_cut))
        changes.partitions |= {task.partition for task in plan.sub_tasks if not task.parked}
        return changes, lost

    async def _lock_own(self, connection: Connection) -> tuple[list[Ended], list[Ticket]]:
        ordered = sorted(self.outcomes, key=lambda outcome: outcome.ticket.task_no)
        rows = await connection.fetch(
            _SQL.lock_attempts,
            [outcome.ticket.task_no for outcome in ordered],
            [outcome.ticket.claim for outcome in ordered],
        )
        # Rows are found by claim, too: a late outcome and that of the next attempt may be in the same flush.
        own = {(row["task_no"], row["claim"]): row for row in rows}
        ended, lost = [], []
        for outcome in ordered:
            row = own.pop((outcome.ticket.task_no, outcome.ticket.claim), None)
            if row is None or row["session_no"] != outcome.ticket.session_no:
                lost.append(outcome.ticket)
            else:
                ended.append(Ended(outcome, judged(outcome, row), row))
        return ended, lost

    async def _write_tasks(self, connection: Connection, plan: Plan) -> Created:
        """Do phases 3 to 5 for all keys that are touched, without completing them; return what follows."""
        created = Created({}, None)
        if plan.touched or plan.sub_tasks:
            plan.touched |= plan.produced.keys()
        if plan.sub_tasks:
            created = await create_tasks(connection, plan.sub_tasks, plan.touched)
            await _delegate(connection, plan.sub_tasks)
        elif plan.touched:
            await lock_open_keys(connection, plan.touched)
        return created

    async def _write_outcomes(self, connection: Connection, plan: Plan) -> list[Key]:
        """Complete results and end attempts; return those of the keys for which tasks wait."""
        tally = Tally()
        for each in plan.ended:
            after = TaskStatus.SUBMITTED if each.retried else each.status
            tally.move(each.row["session_no"], TaskStatus(each.row["status"]), after)
        for (session_no, _), (_, data) in plan.produced.items():
            tally.store(session_no, data.size if isinstance(data, StoredObject) else len(data))
        ordered = sorted(plan.produced.items())
        numbers = self.blob_numbers[: len(ordered)]
        written = await connection.fetchrow(
            _SQL.write_outcomes,
            [key[0] for key, _ in ordered],
            [key[1] for key, _ in ordered],
            [owner for _, (owner, _) in ordered],
            numbers,
            [None if isinstance(data, StoredObject) else data for _, (_, data) in ordered],
            *ended_columns([each for each in plan.ended if not each.retried]),
            *tally.columns(),
        )
        assert written is not None  # an aggregate always has a row
        if written["completed"] != len(ordered):
            raise InvariantError("a task that may commit does not own its open results")
        await link_objects(
            connection,
            [(no, data) for no, (_, (_, data)) in zip(numbers, ordered, strict=True) if isinstance(data, StoredObject)],
        )
        return list(zip(written["awaited_sessions"], written["awaited_keys"], strict=True))


def _apart(
    numbers: Sequence[int], data: Sequence[Data]
) -> tuple[Sequence[int], Sequence[Data], list[tuple[int, StoredObject]]]:
    """Separate inline data (as blob numbers and bytes) from data in the object store."""
    objects = [(number, datum) for number, datum in zip(numbers, data, strict=True) if isinstance(datum, StoredObject)]
    if not objects:
        return numbers, data, objects
    inline = [(number, datum) for number, datum in zip(numbers, data, strict=True) if isinstance(datum, bytes)]
    return [number for number, _ in inline], [datum for _, datum in inline], objects


async def _retry(connection: Connection, failed: Sequence[Ended]) -> Changes:
    """Let another attempt follow each of these, at once or after the delay that the task's options say."""
    row = await connection.fetchrow(_SQL.retry_attempts, *ended_columns(failed))
    assert row is not None  # an aggregate always has a row
    return Changes(partitions=set(row["claimable"]), due_in_s=row["due_in_s"])


async def _delegate(connection: Connection, sub_tasks: Sequence[PlannedTask]) -> None:
    passed = [(task, key) for task in sub_tasks for key in sorted(task.delegated)]
    if passed:
        await connection.execute(
            _DELEGATE,
            [task.session_no for task, _ in passed],
            [key for _, key in passed],
            [task.task_no for task, _ in passed],
            [task.parent_no for task, _ in passed],
        )


def _sizes_of_sessions(attempts: Completions, sessions: set[int]) -> tuple[list[int], list[int]]:
    """Return the sessions in order, and how many bytes of results each gets."""
    sizes = [data.size if isinstance(data, StoredObject) else len(data) for data in attempts.data]
    if len(sessions) == 1:
        return list(sessions), [sum(sizes)]
    sums = dict.fromkeys(sorted(sessions), 0)
    for place, size in zip(attempts.result_places(), sizes, strict=True):
        sums[attempts.session_nos[place - 1]] += size
    return list(sums), list(sums.values())


_DELEGATE = Queries("submission").delegate_keys
