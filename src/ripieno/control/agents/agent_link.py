"""The link to one connected agent: its credit, its claims, and the messages to be sent to it."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ripieno.control.agents.packing import (
    LARGEST_MESSAGE_BYTES,
    NUMBER_BYTES,
    assignment_to_wire,
    batches,
    put_plain,
    size_of,
    size_of_options,
)
from ripieno.domain.data import StoredObject
from ripieno.domain.options import DEFAULT_PARTITION, TaskOptions
from ripieno.domain.outcomes import Ticket
from ripieno.store.attempts.claim import Claimed
from ripieno.wire.outcomes import ticket_to_wire
from ripieno.wire.protos.v1 import agent_pb2

#: An agent with more unsent bytes than this gets no more tasks, beyond those that claims under way bring.
_FULL_BYTES = 8 * 1024 * 1024
#: Nothing more is read from an agent with more unsent bytes than this: whatever it says would add further answers,
#: which it does not read.
_OVERFULL_BYTES = 4 * _FULL_BYTES

#: Estimated bytes of a ticket in a message.
_TICKET_BYTES = 40

#: A settlement is sent no later than this. Sending each in a message of its own would cost a lone task 0.2 ms at both
#: ends (measured).
_SETTLE_WITHIN_S = 0.01

#: A cancellation of a claim that was not handed out yet is forgotten after this time. A claim that has committed is
#: handed out within much less.
_HAND_OUT_S = 60.0


class AgentLink:
    """Credit, claims and outbox of one connection of an agent.

    What is put into the outbox while a message is being written goes into the next message. An agent that does
    not read is given no more tasks, and is not read from, so the outbox cannot grow without bound.

    Attributes:
        on_room: Called when the outbox stops being full (``full``).
    """

    def __init__(self, agent_no: int, name: str, partitions: Sequence[str], epoch: int = 0) -> None:
        self.agent_no = agent_no
        #: Number of this connection among the agent's connections; one with a higher number makes this one void.
        self.epoch = epoch
        #: When the last successful renewal of the agent's lease was requested (monotonic clock, seconds).
        self.renewed_at = time.monotonic()
        self.name = name
        self.partitions = frozenset(partitions) or frozenset({DEFAULT_PARTITION})
        self.credit = 0
        self.revocations = 0
        #: Claims that this agent has, as far as we know, each with its task's priority: those it named
        #: when it connected (their priority is not known: 0), and those sent since.
        self.claims: dict[int, int] = {}
        self._priorities: Counter[int] = Counter()
        #: Claims that were cancelled between the claim's commit and its hand-out, with the time (monotonic clock).
        self._cancelled_early: dict[int, float] = {}
        #: Claims whose cancellation was put into the outbox, with the time; infinity once the agent has confirmed it.
        self._cancelled: dict[int, float] = {}
        self._messages: list[agent_pb2.ControlMessage] = []
        #: Estimated bytes of each message of the outbox; ``unsent_bytes`` is their sum.
        self._sizes: list[int] = []
        self.unsent_bytes = 0
        self.on_room: Callable[[], None] = lambda: None
        self._room = asyncio.Event()
        self._room.set()
        self._open: agent_pb2.ControlMessage | None = None
        #: Options and sessions that the open message describes already.
        self._told_options: set[int] = set()
        self._told_sessions: set[int] = set()
        #: Claims whose cancellation is in a message of the outbox, not sent yet.
        self._telling_cancelled: set[int] = set()
        self._filled = asyncio.Event()
        self._closed = False
        self._settling: asyncio.TimerHandle | None = None

    def grant(self, more: int) -> None:
        """Add credit: the agent takes ``more`` tasks beyond those it has credit for."""
        self.credit += more

    @property
    def full(self) -> bool:
        """Whether so many bytes are unsent (more than 8 MiB) that the agent should be given no more tasks."""
        return self.unsent_bytes > _FULL_BYTES

    async def readable(self) -> None:
        """Wait until few enough bytes are unsent (32 MiB at most) that the agent's stream may be read on."""
        await self._room.wait()

    def revoke(self) -> None:
        """Void all credit, including what a claim under way would give back, and acknowledge that to the agent."""
        self.credit = 0
        self.revocations += 1
        # The number goes into a new message, behind all assignments of earlier messages.
        self._next_message().revocations = self.revocations
        self._filled.set()

    def assign(self, tasks: Sequence[Claimed], options: Mapping[int, TaskOptions], sessions: Mapping[int, str]) -> None:
        """Put assignments into the outbox. Their credit was taken before."""
        plain = [task for task in tasks if isinstance(task.payload, bytes) and not task.data_dependencies]
        for batch, size in batches(plain, options):
            self._introduce(batch, size, options, sessions)
            put_plain(self._message().plain, batch)
        if len(plain) < len(tasks):
            for task in tasks:
                if isinstance(task.payload, StoredObject) or task.data_dependencies:
                    self._introduce([task], size_of(task), options, sessions)
                    self._message().assignments.append(assignment_to_wire(task))
        self._filled.set()

    def _introduce(
        self, tasks: Sequence[Claimed], size: int, options: Mapping[int, TaskOptions], sessions: Mapping[int, str]
    ) -> None:
        """Prepare the open message for assignments: add the options and sessions they refer to, and note their claims."""
        if self._open is not None and self._sizes[-1] > LARGEST_MESSAGE_BYTES:
            self._next_message()
        message = self._message()
        for options_no in {task.options_no for task in tasks} - self._told_options:
            known = options[options_no]
            message.options.add(
                options_no=options_no,
                options=known.options,
                max_duration_us=known.max_duration_us,
                priority=known.priority,
            )
            self._told_options.add(options_no)
            size += size_of_options(known)
        for session_no in {task.ticket.session_no for task in tasks} - self._told_sessions:
            message.sessions.add(session_no=session_no, id=sessions[session_no])
            self._told_sessions.add(session_no)
            size += NUMBER_BYTES + len(sessions[session_no])
        self.hold([(task.ticket.claim, options[task.options_no].priority) for task in tasks])
        if self._cancelled_early:
            for task in tasks:
                if self._cancelled_early.pop(task.ticket.claim, None):
                    self._cancelled[task.ticket.claim] = time.monotonic()
                    # The same message may tell the cancellation: the agent reads its assignments first.
                    message.cancelled.append(ticket_to_wire(task.ticket))
        self._grow(size)

    def welcome(self, welcome: agent_pb2.Welcome) -> None:
        """Put the description of the cluster into the outbox, as a part of the first message."""
        self._message().welcome.CopyFrom(welcome)
        self._filled.set()

    def settle(self, outcomes_no: int, claims: Iterable[int]) -> None:
        """Tell the agent that the outcomes of its message ``outcomes_no`` are durably decided, and drop their claims."""
        self.drop(claims)
        self._message().settled.append(outcomes_no)
        self._grow(NUMBER_BYTES)
        # A settlement only frees memory of the agent, so it waits a moment for another message to travel with.
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(_SETTLE_WITHIN_S, self._send_settled)

    def _send_settled(self) -> None:
        self._settling = None
        if self._messages:
            self._filled.set()

    def hold(self, claims: Iterable[tuple[int, int]]) -> None:
        """Note that the agent has these claims, each with its task's priority."""
        for claim, priority in claims:
            self.claims[claim] = priority
            self._priorities[priority] += 1

    def drop(self, claims: Iterable[int]) -> None:
        """Note that the agent has these claims no longer."""
        for claim in claims:
            self._cancelled.pop(claim, None)
            priority = self.claims.pop(claim, None)
            if priority is not None:
                self._priorities[priority] -= 1
                if not self._priorities[priority]:
                    del self._priorities[priority]

    def hurry(self, priority: int) -> None:
        """Tell an agent without credit that tasks of ``priority`` wait, so that it may give back less urgent ones."""
        if self.credit <= 0 and self._priorities and min(self._priorities) < priority:
            message = self._message()
            message.urgent = max(message.urgent, priority)
            self._filled.set()

    def lose(self, tickets: Sequence[Ticket]) -> None:
        """Tell the agent that it no longer owns these attempts, and drop their claims."""
        if tickets:
            self.drop(ticket.claim for ticket in tickets)
            self._message().lost.extend(ticket_to_wire(ticket) for ticket in tickets)
            self._grow(_TICKET_BYTES * len(tickets))
            self._filled.set()

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Tell the agent that attempts were cancelled. If one is still to be assigned, it is told with the assignment."""
        now = time.monotonic()
        for claim, since in list(self._cancelled_early.items()):
            if now - since > _HAND_OUT_S:
                del self._cancelled_early[claim]  # handed out elsewhere, or released
        for ticket in tickets:
            if ticket.claim in self.claims:
                self._cancelled[ticket.claim] = now
                if ticket.claim not in self._telling_cancelled:
                    self._telling_cancelled.add(ticket.claim)
                    self._message().cancelled.append(ticket_to_wire(ticket))
                    self._grow(_TICKET_BYTES)
                    self._filled.set()
            else:
                self._cancelled_early[ticket.claim] = now

    def follow(self, ticket: Ticket) -> None:
        """Ask the agent for what an attempt of its prints; it is asked again from time to time, so not if it is behind."""
        if ticket.claim in self.claims and not self.full:
            self._message().follow_outputs.append(ticket_to_wire(ticket))
            self._grow(_TICKET_BYTES)
            self._filled.set()

    def watch(self, session_nos: Collection[int]) -> None:
        """Ask the agent how far attempts of these sessions have come; asked again from time to time, so not if behind."""
        if self.claims and not self.full:
            self._message().follow_progress.extend(session_nos)
            self._grow(NUMBER_BYTES * len(session_nos))
            self._filled.set()

    def confirm(self, claims: Iterable[int]) -> None:
        """Note that the agent interrupts these cancelled attempts; it need not be reminded of them."""
        for claim in claims:
            if claim in self.claims:
                self._cancelled[claim] = math.inf

    def remind(self, tickets: Sequence[Ticket], after_s: float) -> None:
        """Tell cancellations again that are unconfirmed and were not told within the last ``after_s`` seconds.

        Called by ``control.agents.reminders`` with the attempts that the store says are being cancelled.
        """
        if self._messages:
            return  # what was told may still be in the outbox: the agent reads slowly, or not at all
        before = time.monotonic() - after_s
        self.cancel([ticket for ticket in tickets if self._cancelled.get(ticket.claim, 0.0) <= before])

    def say_goodbye(self) -> None:
        """Tell the agent that this replica is going away, so that it dials another one, and void its credit."""
        self.revoke()
        self._message().draining = True
        self._filled.set()

    def close(self) -> None:
        """Close the link: the stream ends after the message that is being written."""
        self._closed = True
        self._filled.set()

    async def has_more(self) -> bool:
        """Wait for a message to send; return False when the link is closed."""
        await self._filled.wait()
        return not self._closed

    async def next_message(self) -> agent_pb2.ControlMessage:
        """Wait for a message to send, and take it out of the outbox."""
        await self._filled.wait()
        message = self._messages.pop(0)
        was_full = self.full
        self.unsent_bytes -= self._sizes.pop(0)
        if message is self._open:
            self._open = None
        if not self._messages:
            self._filled.clear()
            self._telling_cancelled.clear()
        if self.unsent_bytes <= _OVERFULL_BYTES:
            self._room.set()
        if was_full and not self.full:
            self.on_room()
        return message

    def unsent(self) -> list[Ticket]:
        """Return the tickets of assignments that were never sent, for the caller to release."""
        return [
            Ticket(each.ticket.task_no, each.ticket.session_no, each.ticket.claim)
            for message in self._messages
            for each in message.assignments
        ] + [
            Ticket(*columns)
            for message in self._messages
            for columns in zip(message.plain.task_nos, message.plain.session_nos, message.plain.claims, strict=True)
        ]

    def _message(self) -> agent_pb2.ControlMessage:
        return self._open if self._open is not None else self._next_message()

    def _next_message(self) -> agent_pb2.ControlMessage:
        self._open = agent_pb2.ControlMessage()
        self._told_options, self._told_sessions = set(), set()
        self._messages.append(self._open)
        self._sizes.append(0)
        return self._open

    def _grow(self, size: int) -> None:
        """Count ``size`` bytes more for the open message, which is the last one of the outbox."""
        self._sizes[-1] += size
        self.unsent_bytes += size
        if self.unsent_bytes > _OVERFULL_BYTES:
            self._room.clear()
