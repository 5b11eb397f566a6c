"""Reports of agents, gathered and written to the store: outcomes, starts, releases.

Outcomes of all agents of this replica share commits. Any fault of the database that is not
about the outcome itself (it is away, full, read-only, locked, or reports an unknown error) is
a reason to keep the outcome and to try again: the agent keeps it too until it is settled, and
committing twice is harmless. Only an outcome that the database cannot hold, tried alone, fails
its task; one whose sub-tasks are more than its session may hold is a failed attempt. An outcome
that meets a bug of ours is put aside and tried again later, so that it holds up no other.

A report is settled when all that it tells is stored, and never before. Until then it is kept in
memory; while reports take more than 64 MiB, no more are read from agents (``room``).
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from ripieno.background import PASSING, Health, persist
from ripieno.control.agents.agent_link import AgentLink
from ripieno.control.agents.backlog import Backlog
from ripieno.control.calls.batching import Batcher
from ripieno.control.calls.quotas import Quotas, payload_bytes
from ripieno.control.waiting.notices import Notices
from ripieno.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from ripieno.domain.outcomes import Cancelled, Completed, Completions, Failed, Failure, Outcome, Ticket
from ripieno.store.attempts.attempts import mark_interrupting_if_owned, mark_started_if_owned, release_if_owned
from ripieno.store.attempts.commit import Committer
from ripieno.store.attempts.outputs import keep_live_outputs
from ripieno.store.attempts.portions import bytes_of, fits, portions_of_outcomes, rows_of
from ripieno.store.attempts.progress import keep_progress
from ripieno.store.database.database import Database
from ripieno.store.sessions.changes import Changes
from ripieno.wire.outcomes import completions_from_wire, outcome_from_wire, output_from_wire, storable, ticket_from_wire
from ripieno.wire.progress import progress_from_wire
from ripieno.wire.protos.v1 import agent_pb2

_log = structlog.get_logger(__name__)

#: The most outcomes in one commit; twice as many are not cheaper each (measured from 256 on).
_LARGEST_COMMIT = 512

#: This many rows weigh as much as an outcome. An outcome that writes more than ``_MANY_ROWS`` (thousands of sub-tasks)
#: shares commits with such outcomes alone, one commit at a time, so that the others go on beside it.
_ROWS_AN_OUTCOME = 4
_MANY_ROWS = 1_000

#: Commits of ordinary outcomes under way at once: one waits for the disk while another works.
_COMMITS = 2

#: The most starts of attempts that are noted in one transaction.
_LARGEST_MARKING = 1_000

#: While reports of all agents take more bytes of memory than this, ``Reports.room`` waits.
_MOST_UNWRITTEN_BYTES = 64 * 1024 * 1024

#: Estimated bytes of memory for an attempt, beside its data, and for a row.
_ATTEMPT_BYTES = 400
_ROW_BYTES = 200

#: Errors for which the outcome itself is to blame.
_ITS_FAULT = (InvalidRequestError, ConflictError, NotFoundError)

#: The pause before an outcome that was put aside is tried again grows from the first to the last.
_FIRST_ASIDE_S, _LAST_ASIDE_S = 1.0, 60.0

_COMMITTING = "committing outcomes"

#: An attempt that has begun: its ticket, when (microseconds since the epoch) and on which worker.
Begun = tuple[Ticket, int, str]


@dataclass(frozen=True, slots=True)
class Report:
    """Outcomes of attempts that are settled together.

    Attributes:
        completions: Attempts that completed with results and nothing else.
        outcomes: The outcomes that are not in ``completions``.
        link: Link of the agent that reported them; None where no agent did.
        stored: Done when all of them are stored.
        tries: How often they were put aside.
        large: Whether each of them writes very many rows.
    """

    completions: Completions
    outcomes: Sequence[Outcome]
    stored: "asyncio.Future[None]"
    link: AgentLink | None = None
    tries: int = 0
    large: bool = False

    @property
    def weight(self) -> int:
        """Weight in a commit: the number of attempts, or the rows they write divided by four, if that is more."""
        return max(len(self.completions) + len(self.outcomes), self.rows // _ROWS_AN_OUTCOME)

    @property
    def rows(self) -> int:
        """About how many rows are written for these outcomes."""
        plain = len(self.completions) + len(self.completions.keys)
        return plain + sum(map(rows_of, self.outcomes)) if self.outcomes else plain

    @property
    def bytes(self) -> int:
        """About how many bytes of memory these outcomes take; the lengths of their keys are not counted."""
        attempts = len(self.completions) + len(self.outcomes)
        return _ATTEMPT_BYTES * attempts + _ROW_BYTES * self.rows + bytes_of(self.completions, self.outcomes)

    def tickets(self) -> list[Ticket]:
        """Return the tickets of all the attempts."""
        return [*self.completions.tickets(), *(outcome.ticket for outcome in self.outcomes)]


@dataclass(slots=True)
class _Written:
    """Results of writing outcomes: the changes, the claims that no longer own their task, the outcomes put aside."""

    changes: Changes = field(default_factory=Changes)
    lost: list[Ticket] = field(default_factory=list)
    aside: list[Outcome] = field(default_factory=list)


class Reports:
    """Writes what agents report, and publishes the changes.

    Args:
        health: Holds a fault while something cannot be written.
    """

    def __init__(
        self, database: Database, committer: Committer, notices: Notices, quotas: Quotas, health: Health | None = None
    ) -> None:
        self._database = database
        self._committer = committer
        self._notices = notices
        self._quotas = quotas
        self._health = health
        self._outcomes = self._lane(_COMMITS)
        self._large = self._lane(1)
        self._begun: Batcher[list[Begun], None] = Batcher(self._mark_started, weigh=len, largest=_LARGEST_MARKING)
        self._group: asyncio.TaskGroup | None = None
        self._backlog = Backlog(_MOST_UNWRITTEN_BYTES)

    def _lane(self, commits: int) -> Batcher[Report, None]:
        return Batcher(self._commit, weigh=lambda report: report.weight, largest=_LARGEST_COMMIT, flushes=commits)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._begun.run())
            group.create_task(self._large.run())
            await self._outcomes.run()

    async def room(self) -> None:
        """Wait until no more than 64 MiB of reports are in memory; called before more is read from an agent."""
        await self._backlog.room()

    def spawn(self, work: Coroutine[Any, Any, None], attempts: int = 1) -> None:
        """Run a small piece of database work for an agent in the background; its errors are logged.

        Args:
            attempts: How many attempts the work is about, which count as memory until it ends.
        """
        assert self._group is not None, "reports run before agents are served"
        self._backlog.hold(_ATTEMPT_BYTES * attempts, self._group.create_task(_logged(work)))

    def ended(self, link: AgentLink, message: agent_pb2.AgentMessage) -> None:
        """Commit the outcomes of one message; when all are stored, tell the agent that they are settled."""
        completions = completions_from_wire(message.completions)
        outcomes = [outcome_from_wire(outcome) for outcome in message.outcomes]
        number = message.outcomes_no
        claims = [*completions.claims, *(outcome.ticket.claim for outcome in outcomes)]
        stored = self._put(completions, outcomes, link)
        stored.add_done_callback(lambda future: None if future.cancelled() else link.settle(number, claims))

    def commit(self, outcomes: Sequence[Outcome]) -> "asyncio.Future[Any]":
        """Commit outcomes that no agent reported (rescued attempts); the future is done when all are stored."""
        return self._put(Completions(), outcomes)

    def _put(
        self, completions: Completions, outcomes: Sequence[Outcome], link: AgentLink | None = None
    ) -> "asyncio.Future[Any]":
        large = [outcome for outcome in outcomes if rows_of(outcome) > _MANY_ROWS]
        if not large:
            return self._enqueue(Report(completions, outcomes, _promise(), link))
        others = [outcome for outcome in outcomes if rows_of(outcome) <= _MANY_ROWS]
        return asyncio.gather(
            self._enqueue(Report(completions, others, _promise(), link)),
            self._enqueue(Report(Completions(), large, _promise(), link, large=True)),
        )

    def _enqueue(self, report: Report) -> "asyncio.Future[None]":
        if not report.tries:
            self._backlog.hold(report.bytes, report.stored)
        (self._large if report.large else self._outcomes).put(report)
        return report.stored

    def started(self, messages: Iterable[agent_pb2.Started]) -> None:
        """Note in the store which attempts have begun."""
        begun = [(ticket_from_wire(each.ticket), each.at_us, storable(each.worker)) for each in messages]
        self._backlog.hold(_ATTEMPT_BYTES * len(begun), self._begun.put(begun))

    def release(self, tickets: Sequence[Ticket]) -> None:
        """Give attempts back in the background. Those that were cancelled meanwhile end as cancelled."""
        self.spawn(self.release_now(tickets), len(tickets))

    def interrupting(self, tickets: Sequence[Ticket]) -> None:
        """Note in the store, in the background, that cancelled attempts had begun and are being interrupted."""
        self.spawn(self._mark_interrupting(tickets), len(tickets))

    def printed(self, link: AgentLink, messages: Iterable[agent_pb2.LiveOutput]) -> None:
        """Keep, in the background, what attempts that run have printed so far, for those who follow them.

        What cannot be written is dropped: more of it comes soon.
        """
        outputs = {each.ticket.claim: output_from_wire(each.output) for each in messages}
        outputs = {claim: output for claim, output in outputs.items() if claim in link.claims}
        if outputs:
            assert self._group is not None, "reports run before agents are served"
            size = sum(_ATTEMPT_BYTES + output.size for output in outputs.values())
            self._backlog.hold(size, self._group.create_task(_logged(keep_live_outputs(self._database, outputs))))

    def progressed(self, link: AgentLink, messages: Iterable[agent_pb2.LiveProgress]) -> None:
        """Keep, in the background, how far attempts that run have come, for those who follow them.

        What cannot be written is dropped: more of it comes soon.
        """
        progress = [
            (ticket_from_wire(each.ticket), progress_from_wire(each.progress))
            for each in messages
            if each.ticket.claim in link.claims
        ]
        if progress:
            assert self._group is not None, "reports run before agents are served"
            task = self._group.create_task(_logged(keep_progress(self._database, progress)))
            self._backlog.hold(2 * _ATTEMPT_BYTES * len(progress), task)

    async def _commit(self, reports: Sequence[Report]) -> Sequence[None]:
        try:
            await self._commit_together(reports)
        except Exception as error:  # noqa: BLE001 - nothing that was reported is ever dropped
            _log.error("reports were put aside because of a bug", reports=len(reports), exc_info=error)
            for report in reports:
                self._put_aside(report, report.tries + 1)
        return [None] * len(reports)

    async def _commit_together(self, reports: Sequence[Report]) -> None:
        completions = Completions()
        for report in reports:
            completions.add(report.completions)
        outcomes = [await self._within_quotas(outcome) for report in reports for outcome in report.outcomes]
        written = _Written()
        if fits(completions):
            await self._commit_completions(completions, written)
        else:
            outcomes = [*completions.outcomes(), *outcomes]
        # Each portion is tried again by itself, and the changes of those written before it are kept.
        for portion in portions_of_outcomes(outcomes):
            await self._commit_surely(portion, written)
        self._written(reports, written)

    async def _within_quotas(self, outcome: Outcome) -> Outcome:
        """Return the outcome, or a failure without sub-tasks where these are more than its session may hold."""
        if not (isinstance(outcome.how, Completed) and outcome.how.sub_tasks):
            return outcome
        session_no, tasks = outcome.ticket.session_no, [task for batch in outcome.how.sub_tasks for task in batch.tasks]
        refusal = await persist(
            _COMMITTING,
            lambda: self._quotas.refusal(session_no, len(tasks), payload_bytes(tasks)),
            self._health,
        )
        if refusal is None:
            return outcome
        return outcome._replace(how=Failed(Failure.ATTEMPT, f"its sub-tasks were refused: {refusal.detail}"))

    def _written(self, reports: Sequence[Report], written: _Written) -> None:
        self._notices.publish(written.changes)
        lost = set(written.lost)
        aside = {outcome.ticket: outcome for outcome in written.aside}
        for report in reports:
            if lost and report.link is not None:
                report.link.lose([ticket for ticket in report.tickets() if ticket in lost])
            if aside and (left := [aside[ticket] for ticket in report.tickets() if ticket in aside]):
                self._put_aside(replace(report, completions=Completions(), outcomes=left), report.tries + 1)
            elif not report.stored.done():
                report.stored.set_result(None)

    def _put_aside(self, report: Report, tries: int) -> None:
        """Commit a report again after a pause, which doubles with each try from 1 s to 60 s."""
        pause_s = min(_FIRST_ASIDE_S * 2 ** min(tries - 1, 16), _LAST_ASIDE_S)
        asyncio.get_running_loop().call_later(pause_s, self._enqueue, replace(report, tries=tries))

    async def _commit_completions(self, completions: Completions, written: _Written) -> None:
        if not completions:
            return
        try:
            changes, lost = await persist(
                _COMMITTING, lambda: self._committer.commit_completions(completions), self._health
            )
        except Exception as error:  # noqa: BLE001 - one bad outcome must not stop the others
            _log.warning("completions cannot be committed together", attempts=len(completions), error=str(error))
            await self._commit_surely(completions.outcomes(), written)
        else:
            written.changes.add(changes)
            written.lost += lost

    async def _commit_surely(self, outcomes: Sequence[Outcome], written: _Written) -> None:
        """Commit outcomes together, and each alone where that fails, so that a bad outcome affects its own task alone."""
        try:
            changes, lost = await persist(_COMMITTING, lambda: self._committer.commit(outcomes), self._health)
        except Exception as error:  # noqa: BLE001 - one bad outcome must not stop the others
            if len(outcomes) == 1:
                await self._refused(outcomes[0], error, written)
                return
            _log.warning("outcomes cannot be committed together", outcomes=len(outcomes), error=str(error))
            for outcome in outcomes:
                await self._commit_surely([outcome], written)
        else:
            written.changes.add(changes)
            written.lost += lost

    async def _refused(self, outcome: Outcome, error: Exception, written: _Written) -> None:
        """Handle an outcome that failed alone: fail its task if the outcome is to blame, else put it aside as our bug."""
        why = f"its outcome cannot be stored: {storable(str(error))}"
        condemned = outcome._replace(how=Failed(Failure.OUTPUT, why))
        if isinstance(error, _ITS_FAULT) and outcome.how != condemned.how:
            _log.warning("an outcome cannot be stored; its task fails", task_no=outcome.ticket.task_no, error=why)
            await self._commit_surely([condemned], written)
            return
        _log.error("an outcome was put aside because of a bug", task_no=outcome.ticket.task_no, exc_info=error)
        written.aside.append(outcome)

    async def _mark_started(self, begun: Sequence[list[Begun]]) -> Sequence[None]:
        together = [each for some in begun for each in some]
        try:
            changes = await persist(
                "noting what has begun", lambda: mark_started_if_owned(self._database, together), self._health
            )
        except Exception as error:  # noqa: BLE001 - the attempts' outcomes say the same again
            _log.error("cannot note what has begun", attempts=len(together), exc_info=error)
        else:
            self._notices.publish(changes)
        return [None] * len(begun)

    async def _mark_interrupting(self, tickets: Sequence[Ticket]) -> None:
        self._notices.publish(
            await persist(
                "noting what is interrupted", lambda: mark_interrupting_if_owned(self._database, tickets), self._health
            )
        )

    async def release_now(self, tickets: Sequence[Ticket]) -> None:
        """Give attempts back; they are claimable when this returns. Those that were cancelled end as cancelled, soon."""
        changes, refused = await persist(
            "giving attempts back", lambda: release_if_owned(self._database, tickets), self._health
        )
        self._notices.publish(changes)
        if refused:
            self.commit([Outcome(ticket, Cancelled()) for ticket in refused])


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except PASSING as error:
        _log.warning("report not written", error=error.detail)
    except Exception as error:  # noqa: BLE001 - one bad report must not stop the others
        _log.error("report cannot be written", exc_info=error)


def _promise() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()
