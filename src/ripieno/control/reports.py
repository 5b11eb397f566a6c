"""What agents report, gathered and written: outcomes, starts, releases.

Outcomes of all agents of this replica share commits. While the database cannot be reached
they are tried again: the agent keeps them until they are settled, and committing twice is
harmless.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog

from ripieno.control.agent_link import AgentLink
from ripieno.control.batching import Batcher
from ripieno.control.notices import Notices
from ripieno.domain.errors import OutcomeUnknownError, RipienoError, UnavailableError
from ripieno.domain.outcomes import Cancelled, Completions, Failed, Failure, Outcome, Ticket
from ripieno.store.attempts import mark_interrupting_if_owned, mark_started_if_owned, release_if_owned
from ripieno.store.changes import Changes
from ripieno.store.commit import Committer
from ripieno.store.database import Database
from ripieno.wire.outcomes import completions_from_wire, outcome_from_wire, storable, ticket_from_wire
from ripieno.wire.protos.v1 import agent_pb2

_log = structlog.get_logger(__name__)

#: Outcomes in one commit; twice as many are not cheaper each (measured from 256 on).
_LARGEST_COMMIT = 512

#: Commits under way at once: one waits for the disk while another works.
_COMMITS = 2

_PAUSE_S = 0.2

Written = TypeVar("Written")


class Report(NamedTuple):
    """Ends of attempts that are settled together; no link where no agent reported them."""

    completions: Completions
    outcomes: Sequence[Outcome]
    link: AgentLink | None = None

    @property
    def weight(self) -> int:
        """How many attempts."""
        return len(self.completions) + len(self.outcomes)

    def tickets(self) -> list[Ticket]:
        """Of all the attempts."""
        return [*self.completions.tickets(), *(outcome.ticket for outcome in self.outcomes)]


class Reports:
    """Writes what agents report and tells the news."""

    def __init__(self, database: Database, committer: Committer, notices: Notices) -> None:
        self._database = database
        self._committer = committer
        self._notices = notices
        self._outcomes: Batcher[Report, None] = Batcher(
            self._commit, weigh=lambda report: report.weight, largest=_LARGEST_COMMIT, flushes=_COMMITS
        )
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._outcomes.run()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a small piece of database work for an agent; a failing database is tried again."""
        assert self._group is not None, "reports run before agents are served"
        self._group.create_task(_logged(work))

    def ended(self, link: AgentLink, message: agent_pb2.AgentMessage) -> None:
        """Commit one message's outcomes, then tell the agent that they are settled."""
        report = Report(
            completions_from_wire(message.completions),
            [outcome_from_wire(outcome) for outcome in message.outcomes],
            link,
        )
        number = message.outcomes_no
        claims = [*report.completions.claims, *(outcome.ticket.claim for outcome in report.outcomes)]
        done = self._outcomes.put(report)
        done.add_done_callback(lambda future: None if future.cancelled() else link.settle(number, claims))

    def commit(self, outcomes: Sequence[Outcome]) -> "asyncio.Future[None]":
        """Commit outcomes that no agent reported (rescued attempts)."""
        return self._outcomes.put(Report(Completions(), outcomes))

    def started(self, messages: Iterable[agent_pb2.Started]) -> None:
        """Note which attempts have begun."""
        begun = [(ticket_from_wire(each.ticket), each.at_us, each.worker) for each in messages]
        self.spawn(self._mark_started(begun))

    def release(self, tickets: Sequence[Ticket]) -> None:
        """Give attempts back, soon. Those that were cancelled meanwhile are thereby over."""
        self.spawn(self.release_now(tickets))

    def interrupting(self, tickets: Sequence[Ticket]) -> None:
        """Note that cancelled attempts had begun."""
        self.spawn(self._mark_interrupting(tickets))

    async def _commit(self, reports: Sequence[Report]) -> Sequence[None]:
        completions = Completions()
        for report in reports:
            completions.add(report.completions)
        outcomes = [outcome for report in reports for outcome in report.outcomes]
        if completions:
            self._committed(reports, *await self._commit_completions(completions))
        if outcomes:
            self._committed(reports, *await self._commit_surely(outcomes))
        return [None] * len(reports)

    def _committed(self, reports: Sequence[Report], changes: Changes, lost: Sequence[Ticket]) -> None:
        self._notices.publish(changes)
        if lost:
            gone = set(lost)
            for report in reports:
                if report.link is not None:
                    report.link.lose([ticket for ticket in report.tickets() if ticket in gone])

    async def _commit_completions(self, completions: Completions) -> tuple[Changes, list[Ticket]]:
        try:
            return await _until_reachable(lambda: self._committer.commit_completions(completions))
        except Exception as error:  # noqa: BLE001 - one bad outcome must not stop the others
            _log.error("completions cannot be committed together", attempts=len(completions), exc_info=error)
            return await self._commit_surely(completions.outcomes())

    async def _commit_surely(self, outcomes: Sequence[Outcome]) -> tuple[Changes, list[Ticket]]:
        """Commit; an outcome that cannot be written at all fails its task, and only that one."""
        try:
            return await _until_reachable(lambda: self._committer.commit(outcomes))
        except Exception as error:  # noqa: BLE001 - one bad outcome must not stop the others
            _log.error("outcomes cannot be committed", outcomes=len(outcomes), exc_info=error)
            if len(outcomes) == 1:
                failed = Failed(Failure.OUTPUT, f"its outcome cannot be stored: {storable(str(error))}")
                return await _until_reachable(lambda: self._committer.commit([outcomes[0]._replace(how=failed)]))
        changes, lost = Changes(), []
        for outcome in outcomes:
            changed, refused = await self._commit_surely([outcome])
            changes.add(changed)
            lost += refused
        return changes, lost

    async def _mark_started(self, begun: Sequence[tuple[Ticket, int, str]]) -> None:
        self._notices.publish(await mark_started_if_owned(self._database, begun))

    async def _mark_interrupting(self, tickets: Sequence[Ticket]) -> None:
        self._notices.publish(await _until_reachable(lambda: mark_interrupting_if_owned(self._database, tickets)))

    async def release_now(self, tickets: Sequence[Ticket]) -> None:
        """Give attempts back; they are claimable when it returns."""
        changes, refused = await _until_reachable(lambda: release_if_owned(self._database, tickets))
        self._notices.publish(changes)
        if refused:
            await self.commit([Outcome(ticket, Cancelled()) for ticket in refused])


async def _until_reachable(write: Callable[[], Awaitable[Written]]) -> Written:
    """Try a write again for as long as the database cannot be reached."""
    while True:
        try:
            return await write()
        except (UnavailableError, OutcomeUnknownError) as error:
            _log.warning("the database cannot be reached; will try again", error=error.detail)
            await asyncio.sleep(_PAUSE_S)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except RipienoError as error:
        _log.warning("report not written", error=error.detail)
    except Exception as error:  # noqa: BLE001 - one bad report must not stop the others
        _log.error("report cannot be written", exc_info=error)
