"""Keeps the agent's stream to the control plane: one at a time, to any replica, until the agent ends.

While the stream is up the control plane renews the agent's lease. When it breaks, running attempts go
on; the next address is dialled, `Hello` names the attempts that are held, and unsettled outcomes are
sent again. Attempts that the control plane gave to other agents meanwhile are returned as `lost`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import grpc
from google.protobuf.message import DecodeError

from ripieno.agent.attempts.assignments import read_assignments
from ripieno.agent.conversation.gathering import Limits
from ripieno.agent.scheduling.complaints import REPEAT_S
from ripieno.agent.scheduling.dispatcher import Dispatcher
from ripieno.agent.scheduling.faults import AGAIN_AFTER_S
from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.scheduling.slots import NAME_BYTES
from ripieno.agent.transport.calls import Call, CallEndedError
from ripieno.agent.transport.channels import reraise_own_cancellation
from ripieno.agent.transport.http2 import connect
from ripieno.agent.transport.keepalive import CONTROL_PLANE
from ripieno.agent.uplink.link import Link
from ripieno.background import Health
from ripieno.config import AgentSettings
from ripieno.domain.data import ObjectDirectory
from ripieno.domain.errors import UnavailableError
from ripieno.domain.texts import reason
from ripieno.objects import is_writable
from ripieno.wire.outcomes import directory_from_wire
from ripieno.wire.protos.v1 import agent_pb2

ControlMessage = agent_pb2.ControlMessage

FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 1.0
#: How long a replica may take to connect, and then to send Welcome, before the next address is tried.
WELCOME_S = 5.0
#: How long the directory for objects may take to answer; a slower file system is not written to.
REACH_S = 1.0
#: How long outcomes may gather while every worker has its next attempt waiting here.
GATHER_S = 0.005
#: How long a replica may take to end the stream of an agent that leaves.
FAREWELL_S = 1.0

#: Seconds after Welcome from which a stream counts as useful, even if nothing was settled on it.
STEADY_S = 5.0

_log = logging.getLogger(__name__)
_PART = "the stream to the control plane"
#: Part of the text with which gRPC servers of all languages refuse a message for its size.
_TOO_LARGE = "larger than max"

_METHOD = b"/ripieno.v1.Agent/Connect"


class _StreamEndedError(Exception):
    """The replica ended the stream, is going away, or sent a message that cannot be processed."""


class Uplink:
    """Keeps a stream to the control plane and passes its messages to the dispatcher and the outbox.

    Attributes:
        on_welcome: Called at each Welcome.
        on_settled: Called with the messages whose outcomes were settled.
        on_refused: Called with lost claims, whose outcomes have no effect.
        on_followed: Called with attempts whose output somebody follows.
        on_progress_followed: Called with sessions whose attempts' progress somebody follows.
    """

    def __init__(
        self,
        settings: AgentSettings,
        dispatcher: Dispatcher,
        outbox: Outbox,
        link: Link,
    ) -> None:
        self.on_welcome: Callable[[], None] = lambda: None
        self.on_settled: Callable[[list[agent_pb2.AgentMessage]], None] = lambda messages: None
        self.on_refused: Callable[[set[int]], None] = lambda claims: None
        self.on_followed: Callable[[Iterable[agent_pb2.Ticket]], None] = lambda tickets: None
        self.on_progress_followed: Callable[[Iterable[int]], None] = lambda session_nos: None
        self._settings = settings
        self._agent_id = settings.agent_id or os.urandom(16)
        #: Number of the current stream: how many sent Hello so far.
        self._connections = 0
        self._dispatcher = dispatcher
        self._outbox = outbox
        self._link = link
        self._health = Health()
        #: When the replica of the current stream sent Welcome, and when it first settled something.
        self._welcomed_at: float | None = None
        self._progress_at: float | None = None
        #: When a warning about assignments that cannot be read was logged last.
        self._unreadable_at: float | None = None
        self._closing = False
        self._stream: Call | None = None
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Keep a stream open, dialling the addresses in turn. Returns only after ``close``."""
        backoff_s = FIRST_BACKOFF_S
        for address in _round_robin(self._settings.control):
            self._begin()
            try:
                await self._connect(address)
            except* (CallEndedError, _StreamEndedError, DecodeError, OSError) as errors:  # a TimeoutError is one
                if not self._closing:
                    self._health.fault(_PART, UnavailableError(f"{address}: {_first(errors)}"))
            except* Exception as errors:  # noqa: BLE001 - after a bug the next stream begins with what both ends hold
                self._health.fault(_PART, errors)
            finally:
                self._stream = None
            reraise_own_cancellation()
            if self._welcomed_at is not None:
                await self._link.disconnected()
            if self._closing:
                return
            if self._went_well():
                backoff_s = FIRST_BACKOFF_S
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)

    def _begin(self) -> None:
        self._welcomed_at = self._progress_at = None

    def _went_well(self) -> bool:
        """Whether the last stream was useful. If not, the pause before the next one grows."""
        if self._welcomed_at is None:
            return False
        return self._progress_at is not None or time.monotonic() - self._welcomed_at > STEADY_S

    async def close(self) -> None:
        """End the stream for good, so that the last messages still arrive. Call when nothing is left to be sent."""
        self._closing = True
        stream = self._stream
        if stream is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                async with self._writing:
                    stream.half_close()
                await stream.ended()

    async def _connect(self, address: str) -> None:
        async with asyncio.timeout(WELCOME_S):
            connection = await connect(address, keepalive=CONTROL_PLANE)
        stream = Call(connection, _METHOD)
        try:
            await self._converse(address, stream)
        finally:
            connection.close()
            if stream.code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in stream.details:
                self._outbox.too_large(stream.details)

    async def _converse(self, address: str, stream: Call) -> None:
        async with asyncio.TaskGroup() as tasks:
            async with asyncio.timeout(WELCOME_S):
                await stream.write([self._hello().SerializeToString()])
                first, *more = await _read(stream)
            if not first.HasField("welcome"):
                raise _StreamEndedError("the first message is not a welcome")
            welcome = first.welcome
            limits = _limits(welcome)
            self._link.connected(address, limits, await _reachable(directory_from_wire(welcome.objects)))
            self._welcomed_at = time.monotonic()
            self._health.works(_PART)
            self.on_welcome()
            self._stream = stream
            tasks.create_task(self._write(stream))
            self._take_all([first, *more])
            self._dispatcher.pump()
            while True:
                self._take_all(await _read(stream))

    def _hello(self) -> agent_pb2.AgentMessage:
        settings = self._settings
        self._connections += 1
        hello = agent_pb2.Hello(
            agent_id=self._agent_id,
            predecessor=settings.predecessor,
            name=reason(settings.name, NAME_BYTES),
            slots=len(self._dispatcher.slots),
            partitions=settings.partitions,
            version=_version(),
            connection=self._connections,
            held=self._outbox.reconnected(),
        )
        for attempt in self._dispatcher.attempts.values():
            hello.held.add(task_no=attempt.task_no, session_no=attempt.session_no, claim=attempt.claim)
        return agent_pb2.AgentMessage(hello=hello)

    async def _write(self, stream: Call) -> None:
        outbox = self._outbox
        while True:
            await outbox.waiting.wait()
            if self._dispatcher.stocked and not outbox.plenty:
                # Each message costs a commit and a claim, 1 ms of all agents' time (measured), and no worker
                # here is idle for want of an answer. A lone task, and the last ones, are sent at once.
                await asyncio.sleep(GATHER_S)
            else:
                await asyncio.sleep(0)  # so that outcomes of the same turn of the event loop go into one message
            async with self._writing:
                message = outbox.take()
                if message is not None:
                    await stream.write([message.SerializeToString()])

    def _take_all(self, messages: list[ControlMessage]) -> None:
        for message in messages:
            try:
                self._take(message)
            except _StreamEndedError:
                raise
            except Exception as error:
                # It is unknown how much of the message was processed; a new stream begins with what both ends hold.
                _log.error("a message of the control plane cannot be taken in", exc_info=error)
                raise _StreamEndedError(f"a message of it cannot be taken in: {error!r}") from error

    def _take(self, message: ControlMessage) -> None:
        dispatcher = self._dispatcher
        if message.settled:
            self._progress_at = self._progress_at or time.monotonic()
            was_congested = self._outbox.congested
            self.on_settled(self._outbox.settled(message.settled))
            if was_congested:
                dispatcher.pump()  # without attempts in hand nothing else would grant credit again
        if message.lost:
            claims = {ticket.claim for ticket in message.lost}
            self._outbox.drop(claims)
            self.on_refused(claims)
            dispatcher.lost(claims)
        was_revoking = self._outbox.revoking
        if message.HasField("revocations"):
            self._outbox.heard(message.revocations)
        if message.assignments or message.plain.task_nos:
            attempts, unreadable = read_assignments(message)
            if unreadable:
                self._give_back(unreadable)
            dispatcher.assigned(attempts)
        if was_revoking and not self._outbox.revoking:
            dispatcher.pump()
        if message.urgent:
            dispatcher.urgent(message.urgent)
        if message.cancelled:
            dispatcher.cancelled(message.cancelled)
        if message.follow_outputs:
            self.on_followed(message.follow_outputs)
        if message.follow_progress:
            self.on_progress_followed(message.follow_progress)
        if message.draining:
            raise _StreamEndedError("it is going away")

    def _give_back(self, tickets: list[agent_pb2.Ticket]) -> None:
        """Give back unreadable assignments after a pause, because they may be assigned here again at once."""
        now = time.monotonic()
        if self._unreadable_at is None or now - self._unreadable_at >= REPEAT_S:
            self._unreadable_at = now
            _log.warning(
                "%d assignments cannot be read, the first of task number %d: they lack something, or come from a"
                " control plane of another version; they, and others like them, go back",
                len(tickets),
                tickets[0].task_no,
            )
        self._outbox.credit_out = max(0, self._outbox.credit_out - len(tickets))
        loop = asyncio.get_running_loop()
        for ticket in tickets:
            loop.call_later(AGAIN_AFTER_S, self._outbox.released, ticket)


def _limits(welcome: agent_pb2.Welcome) -> Limits:
    """Return the limits in a Welcome; those that an older control plane does not send have their defaults."""
    default = Limits()
    return Limits(
        welcome.data_chunk_max_size,
        welcome.inline_limit_bytes,
        welcome.sub_tasks_per_attempt or default.sub_tasks_per_attempt,
        welcome.options_bytes or default.options_bytes,
    )


async def _reachable(directory: ObjectDirectory | None) -> ObjectDirectory | None:
    """Return ``directory`` if this agent can write objects there, else None: they go to the control plane."""
    if directory is None:
        return None
    try:
        async with asyncio.timeout(REACH_S):
            return directory if await asyncio.to_thread(is_writable, directory) else None
    except TimeoutError:
        return None


async def _read(stream: Call) -> list[ControlMessage]:
    """Return the messages that have arrived, waiting for at least one.

    Raises:
        _StreamEndedError: if the stream has ended.
    """
    messages = await stream.read()
    if not messages:
        ended = stream.code is grpc.StatusCode.OK
        raise _StreamEndedError("it ended the stream" if ended else stream.status)
    return [ControlMessage.FromString(message) for message in messages]


def _round_robin(addresses: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from addresses


def _first(errors: BaseExceptionGroup[BaseException]) -> str:
    error = errors.exceptions[0]
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def _version() -> str:
    try:
        return version("ripieno")
    except PackageNotFoundError:
        return "unknown"
