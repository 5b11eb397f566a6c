"""The agent's messages to the control plane: those to be sent, and those sent but not yet settled.

Everything is gathered in the message that will be sent next (group commit). A message that
carries outcomes gets a number and is kept until that number is settled; after a reconnect
all kept messages are sent again. No I/O: ``uplink`` takes messages out, ``waiting`` wakes it.

Bounds: a message has at most ``MESSAGE_BYTES``, or tells the end of one attempt, which has at most
``gathering.MAX_OUTCOME_BYTES``. Beyond ``MAX_UNSETTLED`` or ``MAX_UNSETTLED_BYTES`` the agent asks for no more work
(``congested``), beyond twice those bytes it begins nothing (``full``). Nothing is dropped before it is
settled or lost.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence, Set

from ripieno.agent.attempts.attempt import Attempt, Verdict
from ripieno.agent.attempts.endings import Ticketed, ended, halves, outcome_of, put_ticket, tickets_of, without
from ripieno.domain.outcomes import Completed, Completions, Failed
from ripieno.domain.output import AttemptOutput
from ripieno.domain.progress import Progress
from ripieno.wire.outcomes import completions_to_wire, output_to_wire
from ripieno.wire.progress import progress_to_wire
from ripieno.wire.protos.v1 import agent_pb2

AgentMessage = agent_pb2.AgentMessage

#: Nothing is added to a message that would make it longer than this.
MESSAGE_BYTES = 3 * 1024 * 1024
#: Number of gathered outcomes that are sent without waiting for more: the cost of their commit is spread enough.
ENOUGH_OUTCOMES = 16
#: Unsettled outcomes beyond either bound stop the granting of credit.
MAX_UNSETTLED = 4_096
MAX_UNSETTLED_BYTES = 32 * 1024 * 1024

#: Approximate bytes of an outcome beside its data.
_OUTCOME_BYTES = 100
#: Above this many results an outcome is measured, not estimated.
_MANY_RESULTS = 100


class Outbox:
    """One agent's messages to the control plane. Belongs to the event loop's thread.

    Attributes:
        waiting: Event that is set while there is something to send.
        credit_out: Assignments granted on this stream and neither received nor taken back yet; never below zero.
    """

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.credit_out = 0
        self._emptied = asyncio.Event()
        self._open = AgentMessage()
        self._completions = Completions()
        self._open_bytes = 0
        #: How many revocations of credit were sent on this stream, and how many the control plane has acknowledged.
        self._revocations = self._heard = 0
        self._closed: deque[AgentMessage] = deque()
        self._unsettled: OrderedDict[int, AgentMessage] = OrderedDict()
        self._unsettled_bytes = 0
        self._sizes: dict[int, int] = {}
        self._number = 0
        self._unsettled_count = 0

    # ------------------------------------------------------------------ to be told

    def over(self, attempt: Attempt, how: Completed | Failed) -> None:
        """Report the end of an attempt: by its verdict if it has one, else as its worker said.

        A lost attempt is not reported.
        """
        verdict = attempt.verdict
        if verdict is None:
            if isinstance(how, Completed):
                self.completed(attempt, how)
            else:
                self.failed(attempt, how)
        elif verdict is Verdict.CANCELLED:
            self.cancelled(attempt)
        elif verdict is Verdict.RELEASED:
            self.released(attempt)
        elif verdict is not Verdict.LOST:
            self.failed(attempt, Failed(verdict.failure, attempt.detail))

    def completed(self, attempt: Attempt, how: Completed) -> None:
        """Report that an attempt completed. It is COMPLETED once the message is settled."""
        if not how.sub_tasks and len(how.results) <= _MANY_RESULTS:
            inline = [(key, data) for key, data in how.results if isinstance(data, bytes)]
            if len(inline) == len(how.results):
                self._completed_plainly(attempt, inline)
                return
        self._tell(attempt, how)

    def _completed_plainly(self, attempt: Attempt, results: Sequence[tuple[str, bytes]]) -> None:
        size = _OUTCOME_BYTES + len(attempt.worker)
        for key, data in results:
            size += len(data) + len(key)
        output = attempt.output
        if output is not None:
            size += output.size
        if self._open_bytes + size > MESSAGE_BYTES:
            self._make_room(size)
        columns = self._completions
        columns.task_nos.append(attempt.task_no)
        columns.session_nos.append(attempt.session_no)
        columns.claims.append(attempt.claim)
        columns.started_at_us.append(attempt.started_at_us)
        columns.workers.append(attempt.worker)
        columns.result_counts.append(len(results))
        for key, data in results:
            columns.keys.append(key)
            columns.data.append(data)
        if output is not None:
            columns.outputs[attempt.claim] = output
        self._grow(size)

    def failed(self, attempt: Attempt, how: Failed) -> None:
        """Report that an attempt failed."""
        self._tell(attempt, how)

    def cancelled(self, attempt: Attempt) -> None:
        """Report that a cancelled attempt is over, or never began."""
        self._tell(attempt, None)

    def released(self, ticket: Ticketed) -> None:
        """Report that an attempt is given back: no attempt of its task is used up."""
        put_ticket(self._open.released.add(), ticket)
        self._grow(_OUTCOME_BYTES)

    def interrupting(self, attempt: Attempt) -> None:
        """Report that a cancelled attempt had begun and is being interrupted: it will not commit."""
        put_ticket(self._open.interrupting.add(), attempt)
        self._grow(_OUTCOME_BYTES)

    def started(self, attempt: Attempt) -> None:
        """Report that an attempt is running, since ``attempt.started_at_us``."""
        started = self._open.started.add()
        put_ticket(started.ticket, attempt)
        started.at_us = attempt.started_at_us
        started.worker = attempt.worker
        self._grow(_OUTCOME_BYTES + len(attempt.worker))

    def printed(self, attempt: Attempt, output: AttemptOutput) -> None:
        """Report what an attempt that runs has printed so far."""
        live = self._open.outputs.add(output=output_to_wire(output))
        put_ticket(live.ticket, attempt)
        self._grow(_OUTCOME_BYTES + output.size)

    def progressed(self, attempt: Attempt, progress: Progress) -> None:
        """Report how far an attempt that runs has come."""
        live = self._open.progress.add(progress=progress_to_wire(progress))
        put_ticket(live.ticket, attempt)
        self._grow(_OUTCOME_BYTES + len(progress.text))

    def grant(self, more: int) -> None:
        """Grant the control plane credit for ``more`` assignments beyond those granted so far."""
        self._open.credit += more
        self.credit_out += more
        self._grow(0)

    def revoke(self) -> None:
        """Take back the credit that was granted and not used yet.

        Assignments for some of it may be on their way and arrive all the same. Until the
        control plane acknowledges the revocation, they are given back, and no credit is granted.
        """
        if self.credit_out > 0:
            self._open.credit = 0
            self._open.credit_revoked = True
            self.credit_out = 0
            self._grow(0)

    @property
    def revoking(self) -> bool:
        """Whether a revocation of credit is not yet acknowledged by the control plane."""
        return self._open.credit_revoked or self._heard < self._revocations

    def heard(self, revocations: int) -> None:
        """Note that the control plane has acknowledged ``revocations`` revocations on this stream."""
        self._heard = revocations

    def resized(self, slots: int) -> None:
        """Report that the agent runs so many attempts at a time from now on."""
        self._open.slots = slots
        self._grow(0)

    def draining(self) -> None:
        """Report that the agent drains: it takes no more work."""
        self._open.draining = True
        self._grow(0)

    # ------------------------------------------------------------------ to be sent

    def take(self) -> AgentMessage | None:
        """Return the next message to send, or None if there is none."""
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
        """Forget messages whose outcomes were durably decided, by their numbers, and return them."""
        messages = [self._forget(number) for number in numbers if number in self._unsettled]
        if not self._unsettled:
            self._emptied.set()
        return messages

    def reconnected(self) -> list[agent_pb2.Ticket]:
        """Prepare for a new stream, on which all unsettled messages are sent again. Credit starts at zero.

        Returns:
            The tickets of all kept outcomes, which Hello names as held.
        """
        if self.waiting.is_set() and self._open_bytes:
            self._closed.append(self._close_open())
        self.credit_out = self._revocations = self._heard = 0
        again = deque(self._unsettled.values())
        for message in [*again, *self._closed]:
            message.credit, message.credit_revoked = 0, False  # they concern the former stream
        # Messages that are numbered but not sent yet are in both collections already.
        again.extend(message for message in self._closed if not message.outcomes_no)
        self._closed = again
        if again:
            self.waiting.set()
        return [ticket for message in self._unsettled.values() for ticket in tickets_of(message)]

    def drop(self, claims: Set[int]) -> None:
        """Remove the outcomes of attempts whose claims were lost; they need not be sent again."""
        self._completions = self._completions.without(claims)
        self._open = without(self._open, claims)
        for message in [*self._closed, *self._unsettled.values()]:
            left = without(message, claims)
            if left is not message:
                self._replace(message, [left])
        if not self._unsettled:
            self._emptied.set()

    def too_large(self, refusal: str) -> None:
        """Replace the largest unsettled message by smaller ones: the control plane refused a message for its size.

        It is cut into two halves, or, if it tells the end of one attempt, replaced by that attempt's
        failure, which gives the reason. Call it between two streams, once for each refusal.
        """
        if self._unsettled:
            number = max(self._unsettled, key=self._sizes.__getitem__)
            self._replace(self._unsettled[number], halves(self._unsettled[number], refusal))

    def _replace(self, message: AgentMessage, parts: Sequence[AgentMessage]) -> None:
        """Replace a message wherever it is kept by ``parts``; parts without the end of an attempt are not kept."""
        for place, closed in enumerate(self._closed):
            if closed is message:
                del self._closed[place]
                for part in reversed(parts):
                    self._closed.insert(place, part)
                break
        if self._unsettled.get(message.outcomes_no) is message:
            self._forget(message.outcomes_no)
            for number, part in enumerate(parts):
                self._keep(part, part.ByteSize(), message.outcomes_no if not number else 0)

    def tells_of(self, claim: int) -> bool:
        """Whether the outbox holds the unsettled end of an attempt. Slow: it searches all kept messages."""
        if claim in self._completions.claims:
            return True
        kept = [self._open, *self._unsettled.values()]
        return any(ticket.claim == claim for message in kept for ticket in tickets_of(message))

    @property
    def congested(self) -> bool:
        """Whether so much is unsettled that no credit should be granted."""
        return self._unsettled_count > MAX_UNSETTLED or self._unsettled_bytes > MAX_UNSETTLED_BYTES

    @property
    def full(self) -> bool:
        """Whether so much is unsettled that no attempt should be started either."""
        return self._unsettled_bytes > 2 * MAX_UNSETTLED_BYTES

    @property
    def plenty(self) -> bool:
        """Whether the next message carries enough to be sent without gathering more."""
        return bool(self._closed) or len(self._completions) >= ENOUGH_OUTCOMES

    async def emptied(self) -> None:
        """Wait until all outcomes are settled and all releases are taken out to be sent."""
        while self._unsettled or self._completions or any(map(_matters, [self._open, *self._closed])):
            self._emptied.clear()
            await self._emptied.wait()

    # ------------------------------------------------------------------ inside

    def _tell(self, attempt: Attempt, how: Completed | Failed | None) -> None:
        outcome = outcome_of(attempt, how)
        size = outcome.ByteSize()
        self._make_room(size)
        self._open.outcomes.append(outcome)
        self._grow(size)

    def _make_room(self, size: int) -> None:
        """Close the open message if ``size`` more bytes would make it too long."""
        if self._open_bytes + size > MESSAGE_BYTES and self._open_bytes:
            self._closed.append(self._close_open())

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
        self._keep(message, size)
        return message

    def _keep(self, message: AgentMessage, size: int, number: int = 0) -> None:
        """Number a message that tells the end of attempts, and keep it until it is settled; skip any other."""
        if not (count := ended(message)):
            message.outcomes_no = 0
            return
        if not number:
            self._number += 1
            number = self._number
        message.outcomes_no = number
        self._unsettled[number] = message
        self._sizes[number] = size
        self._unsettled_bytes += size
        self._unsettled_count += count

    def _forget(self, number: int) -> AgentMessage:
        message = self._unsettled.pop(number)
        self._unsettled_bytes -= self._sizes.pop(number)
        self._unsettled_count -= ended(message)
        return message


def _matters(message: AgentMessage) -> bool:
    """Whether a message says more than credit and progress: ends, releases or interruptions."""
    return bool(ended(message) or message.released or message.interrupting)
