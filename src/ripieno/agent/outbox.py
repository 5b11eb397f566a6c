"""What the agent has to tell the control plane, and what it told but was not yet settled.

Everything gathers in the message that will be sent next (group commit). A message that
carries outcomes gets a number and is kept until that number is settled; after a reconnect
what is kept is sent again. No I/O: ``uplink`` takes messages out, ``waiting`` wakes it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence, Set

from ripieno.agent.attempt import Attempt, Verdict
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.outcomes import Completed, Completions, Failed, Failure, SubTasks
from ripieno.wire.options import options_to_wire
from ripieno.wire.outcomes import completions_from_wire, completions_to_wire
from ripieno.wire.protos.v1 import agent_pb2

AgentMessage = agent_pb2.AgentMessage
Outcome = agent_pb2.Outcome

#: A message is closed above this size, which keeps it below about 4 MiB.
MESSAGE_BYTES = 3 * 1024 * 1024
#: An outcome that is longer cannot be committed, and is a final failure: a message that the
#: control plane refuses would break the stream again and again.
MAX_OUTCOME_BYTES = 24 * 1024 * 1024
#: So many outcomes are not gathered any further: the cost of their commit is spread well enough.
ENOUGH_OUTCOMES = 16
#: Unsettled outcomes beyond either bound stop the granting of credit.
MAX_UNSETTLED = 4_096
MAX_UNSETTLED_BYTES = 32 * 1024 * 1024

_REASONS = {
    Failure.ATTEMPT: Outcome.Failed.ATTEMPT,
    Failure.TIMEOUT: Outcome.Failed.TIMEOUT,
    Failure.OUTPUT: Outcome.Failed.OUTPUT,
}
#: Bytes of an outcome beside its data, by and large.
_OUTCOME_BYTES = 100
#: Above this many results an outcome is measured, not estimated.
_MANY_RESULTS = 100


class Outbox:
    """One agent's messages to the control plane. Belongs to the event loop's thread.

    Attributes:
        waiting: Set while there is something to send.
        credit_out: Assignments granted on this stream and neither received nor taken back yet; never below zero.
    """

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.credit_out = 0
        self._emptied = asyncio.Event()
        self._open = AgentMessage()
        self._completions = Completions()
        self._open_bytes = 0
        #: How often credit was revoked on this stream, and how often the control plane has heard of it.
        self._revocations = self._heard = 0
        self._closed: deque[AgentMessage] = deque()
        self._unsettled: OrderedDict[int, AgentMessage] = OrderedDict()
        self._unsettled_bytes = 0
        self._sizes: dict[int, int] = {}
        self._number = 0
        self._unsettled_count = 0

    # ------------------------------------------------------------------ to be told

    def over(self, attempt: Attempt, how: Completed | Failed, ended_at_us: int) -> None:
        """An attempt is over: by its verdict if it has one, else as its worker said."""
        verdict = attempt.verdict
        if verdict is None:
            if isinstance(how, Completed):
                self.completed(attempt, how, ended_at_us)
            else:
                self.failed(attempt, how, ended_at_us)
        elif verdict is Verdict.CANCELLED:
            self.cancelled(attempt, ended_at_us)
        elif verdict is Verdict.RELEASED:
            self.released(attempt)
        elif verdict is not Verdict.LOST:
            failure = Failure.TIMEOUT if verdict is Verdict.TIMEOUT else Failure.ATTEMPT
            self.failed(attempt, Failed(failure, attempt.detail), ended_at_us)

    def completed(self, attempt: Attempt, how: Completed, ended_at_us: int) -> None:
        """An attempt is COMPLETED once this is settled."""
        if not how.sub_tasks and len(how.results) <= _MANY_RESULTS:
            inline = [(key, data) for key, data in how.results if isinstance(data, bytes)]
            if len(inline) == len(how.results):
                self._completed_plainly(attempt, inline)
                return
        outcome = self._outcome(attempt, ended_at_us)
        completed = outcome.completed
        size = _OUTCOME_BYTES
        if how.results:
            results = completed.results
            for key, data in how.results:
                result = results.add()
                result.key = key
                if isinstance(data, bytes):
                    result.data.inline = data
                    size += len(data) + len(key)
                else:
                    _put_data(result.data, data)
        else:
            completed.SetInParent()
        for batch in how.sub_tasks:
            _put_sub_tasks(completed.sub_tasks.add(), batch)
        if how.sub_tasks or len(how.results) > _MANY_RESULTS:
            size = outcome.ByteSize()
        if size > MAX_OUTCOME_BYTES:
            outcome.failed.reason = Outcome.Failed.OUTPUT
            outcome.failed.detail = (
                f"the outcome has {size} bytes, more than one commit takes ({MAX_OUTCOME_BYTES});"
                " create fewer sub-tasks at once, and let them create the others"
            )
            size = _OUTCOME_BYTES
        self._grow(size)

    def _completed_plainly(self, attempt: Attempt, results: Sequence[tuple[str, bytes]]) -> None:
        columns = self._completions
        columns.task_nos.append(attempt.task_no)
        columns.session_nos.append(attempt.session_no)
        columns.claims.append(attempt.claim)
        columns.started_at_us.append(attempt.started_at_us)
        columns.workers.append(attempt.worker)
        columns.result_counts.append(len(results))
        size = _OUTCOME_BYTES
        for key, data in results:
            columns.keys.append(key)
            columns.data.append(data)
            size += len(data) + len(key)
        self._grow(size)

    def failed(self, attempt: Attempt, how: Failed, ended_at_us: int) -> None:
        """An attempt failed."""
        failed = self._outcome(attempt, ended_at_us).failed
        failed.reason = _REASONS[how.failure]
        failed.detail = how.detail
        self._grow(_OUTCOME_BYTES + len(how.detail))

    def cancelled(self, attempt: Attempt, ended_at_us: int) -> None:
        """A cancelled attempt is over, or never began."""
        self._outcome(attempt, ended_at_us).cancelled.SetInParent()
        self._grow(_OUTCOME_BYTES)

    def released(self, attempt: Attempt) -> None:
        """Given back; no attempt is used up."""
        _put_ticket(self._open.released.add(), attempt)
        self._grow(_OUTCOME_BYTES)

    def interrupting(self, attempt: Attempt) -> None:
        """A cancelled attempt that had begun will not commit."""
        _put_ticket(self._open.interrupting.add(), attempt)
        self._grow(_OUTCOME_BYTES)

    def started(self, attempt: Attempt) -> None:
        """An attempt runs for long enough to be seen running."""
        started = self._open.started.add()
        _put_ticket(started.ticket, attempt)
        started.at_us = attempt.started_at_us
        started.worker = attempt.worker
        self._grow(_OUTCOME_BYTES)

    def grant(self, more: int) -> None:
        """Take ``more`` assignments beyond those granted so far."""
        self._open.credit += more
        self.credit_out += more
        self._grow(0)

    def revoke(self) -> None:
        """Take back the credit that was granted and not used yet.

        Assignments for some of it may be on their way and arrive all the same. Until the
        control plane says that it has heard, they are not wanted, and no more is granted.
        """
        if self.credit_out > 0:
            self._open.credit = 0
            self._open.credit_revoked = True
            self.credit_out = 0
            self._grow(0)

    @property
    def revoking(self) -> bool:
        """Whether the control plane may not have heard yet that credit was revoked."""
        return self._open.credit_revoked or self._heard < self._revocations

    def heard(self, revocations: int) -> None:
        """The control plane has heard of so many revocations on this stream."""
        self._heard = revocations

    def draining(self) -> None:
        """The agent takes no more work."""
        self._open.draining = True
        self._grow(0)

    # ------------------------------------------------------------------ to be sent

    def take(self) -> AgentMessage | None:
        """The next message to send, or None."""
        if self._closed:
            message = self._closed.popleft()
        elif self.waiting.is_set():
            message = self._close_open()
        else:
            return None
        if not self._closed and not self._open_bytes:
            self.waiting.clear()
            self._emptied.set()
        return message

    def settled(self, numbers: Sequence[int]) -> list[AgentMessage]:
        """Outcomes were durably decided; returns the messages that carried them."""
        messages = []
        for number in numbers:
            message = self._unsettled.pop(number, None)
            if message is not None:
                self._unsettled_bytes -= self._sizes.pop(number)
                self._unsettled_count -= _ended(message)
                messages.append(message)
        if not self._unsettled:
            self._emptied.set()
        return messages

    def reconnected(self) -> list[agent_pb2.Ticket]:
        """A new stream is about to open: all that is unsettled will be sent again.

        Returns:
            The tickets of all outcomes that are kept, to be named as held.
        """
        if self.waiting.is_set() and self._open_bytes:
            self._closed.append(self._close_open())
        self.credit_out = self._revocations = self._heard = 0
        again = deque(self._unsettled.values())
        for message in [*again, *self._closed]:
            message.credit, message.credit_revoked = 0, False  # of the former stream
        # What was numbered but not sent yet stands in both.
        again.extend(message for message in self._closed if not message.outcomes_no)
        self._closed = again
        if again:
            self.waiting.set()
        tickets = []
        for message in self._unsettled.values():
            tickets += [outcome.ticket for outcome in message.outcomes]
            columns = message.completions
            tickets += [
                agent_pb2.Ticket(task_no=task_no, session_no=session_no, claim=claim)
                for task_no, session_no, claim in zip(
                    columns.task_nos, columns.session_nos, columns.claims, strict=True
                )
            ]
        return tickets

    def drop(self, claims: Set[int]) -> None:
        """These are no longer ours: their outcomes need not be sent again."""
        self._completions = self._completions.without(claims)
        for message in [self._open, *self._closed, *self._unsettled.values()]:
            number = message.outcomes_no
            before = _ended(message)
            for index in range(len(message.outcomes) - 1, -1, -1):
                if message.outcomes[index].ticket.claim in claims:
                    del message.outcomes[index]
            if not claims.isdisjoint(message.completions.claims):
                left = completions_from_wire(message.completions).without(claims)
                message.ClearField("completions")
                completions_to_wire(left, message.completions)
            if number:
                self._unsettled_count -= before - _ended(message)
            if number and not _ended(message):
                message.outcomes_no = 0
                del self._unsettled[number]
                self._unsettled_bytes -= self._sizes.pop(number)

    @property
    def congested(self) -> bool:
        """Whether so much is unsettled that no more work should be asked for."""
        return self._unsettled_count > MAX_UNSETTLED or self._unsettled_bytes > MAX_UNSETTLED_BYTES

    @property
    def plenty(self) -> bool:
        """Whether the next message is worth a commit of its own."""
        return bool(self._closed) or len(self._completions) >= ENOUGH_OUTCOMES

    async def emptied(self) -> None:
        """Wait until all outcomes are settled and all releases are taken."""
        while self._unsettled or self._completions or any(map(_matters, [self._open, *self._closed])):
            self._emptied.clear()
            await self._emptied.wait()

    # ------------------------------------------------------------------ inside

    def _outcome(self, attempt: Attempt, ended_at_us: int) -> Outcome:
        outcome = self._open.outcomes.add()
        ticket = outcome.ticket
        ticket.task_no = attempt.task_no
        ticket.session_no = attempt.session_no
        ticket.claim = attempt.claim
        outcome.started_at_us = attempt.started_at_us
        outcome.ended_at_us = ended_at_us
        outcome.worker = attempt.worker
        return outcome

    def _grow(self, size: int) -> None:
        self._open_bytes += size or 1
        if self._open_bytes > MESSAGE_BYTES:
            self._closed.append(self._close_open())
        self.waiting.set()

    def _close_open(self) -> AgentMessage:
        message, size = self._open, self._open_bytes
        self._open, self._open_bytes = AgentMessage(), 0
        self._revocations += message.credit_revoked
        if self._completions:
            completions_to_wire(self._completions, message.completions)
            self._completions = Completions()
        if _ended(message):
            self._number += 1
            message.outcomes_no = self._number
            self._unsettled[self._number] = message
            self._sizes[self._number] = size
            self._unsettled_bytes += size
            self._unsettled_count += _ended(message)
        return message


def _ended(message: AgentMessage) -> int:
    """How many attempts it tells the end of."""
    return len(message.outcomes) + len(message.completions.task_nos)


def _matters(message: AgentMessage) -> bool:
    """Whether the control plane would miss something if this were not sent."""
    return bool(_ended(message) or message.released or message.interrupting)


def _put_ticket(ticket: agent_pb2.Ticket, attempt: Attempt) -> None:
    ticket.task_no = attempt.task_no
    ticket.session_no = attempt.session_no
    ticket.claim = attempt.claim


def _put_data(message: agent_pb2.Data, data: Data) -> None:
    if isinstance(data, StoredObject):
        stored = message.object
        stored.name, stored.size, stored.sha256 = data.name, data.size, data.sha256
    else:
        message.inline = data


def _put_sub_tasks(message: agent_pb2.SubTasks, batch: SubTasks) -> None:
    if batch.options is not None:
        message.options.CopyFrom(options_to_wire(batch.options))
    for task in batch.tasks:
        sub_task = message.tasks.add(
            id=task.id, expected_output_keys=task.expected_output_keys, data_dependencies=task.data_dependencies
        )
        _put_data(sub_task.payload, task.payload)
