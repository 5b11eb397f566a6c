"""The lane to any worker of the protocol: one ``Process`` call per attempt, one at a time.

The agent half-closes after Output and sends nothing more; then it waits for the end of
the call, because a call that fails after Output is a failed attempt.

An interruption cancels the call, which does not show whether the handler has stopped: gRPC has no
message for that. The only evidence is ``HealthCheck``: a worker that answers it is taken to have
stopped. One that does not answer is replaced after the grace if the agent started it, else left alone
until it answers. UNIMPLEMENTED counts as an answer, except from a worker that the agent started and
that did not break the protocol or a limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from ripieno.agent.attempts.attempt import Attempt, Verdict
from ripieno.agent.attempts.opening import opening, whole_opening
from ripieno.agent.conversation.conversation import Conversation
from ripieno.agent.conversation.effects import ProcessRequest
from ripieno.agent.scheduling.dispatcher import Dispatcher
from ripieno.agent.scheduling.faults import contained, end_attempt
from ripieno.agent.scheduling.slots import Lane, Slot
from ripieno.agent.transport.calls import Call, CallEndedError
from ripieno.agent.transport.http2 import Connection, connect
from ripieno.agent.uplink.link import Link
from ripieno.agent.workers.exchange import Exchange
from ripieno.agent.workers.health import INTERVAL_S, Health, ask
from ripieno.agent.workers.lanes import LaneBrokenError
from ripieno.agent.workers.output import output_since, position_now
from ripieno.domain.outcomes import Completed, Failed, Failure
from ripieno.printed import Printed
from ripieno.wire.protos.armonik_v2 import worker_service_pb2

ProcessReply = worker_service_pb2.ProcessReply

_METHOD = b"/ArmoniK.api.grpc.v1.Worker/Process"

#: How long a worker may take to end the call after its Output.
END_S = 2.0
#: How long a worker that served before may take to accept a new connection, and the pause between tries.
RECONNECT_S = 1.0
RETRY_S = 0.02
#: Pauses before a call that the worker's server never processed is made again. A server that refuses more
#: often is not just going away or restarting.
REFUSED_PAUSES_S = (0.05, 0.25)
_TALKS_ON = "the worker broke the protocol: a message after Output, which must be the last one"


class ProcessLane:
    """Serves one worker over ``Worker.Process``.

    Args:
        address: Where the worker serves, for ``Process`` calls.
        channel: A channel to the same worker, for HealthCheck.
        slot: The worker's slot.
        dispatcher: The agent's dispatcher.
        exchange: Carries out the effects of conversations.
        link: The connection to the control plane, for its limits.
        kill: Ends the worker; returns False if the agent did not start it.
        printed: What the worker prints; None if that is not known.
        spawned: Whether the agent started the worker's process.
    """

    ahead = False

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        slot: Slot,
        dispatcher: Dispatcher,
        exchange: Exchange,
        link: Link,
        kill: Callable[[str], bool],
        printed: Printed | None = None,
        *,
        spawned: bool,
    ) -> None:
        self.kill = kill
        self._printed = printed
        self._channel = channel
        self._address = address
        self._connection: Connection | None = None
        self._slot = slot
        self._dispatcher = dispatcher
        self._exchange = exchange
        self._link = link
        self._spawned = spawned
        self._next: asyncio.Queue[Attempt] = asyncio.Queue()
        self._call: Call | None = None
        self._writing = asyncio.Lock()

    @property
    def faces(self) -> Sequence[Lane]:
        """The lane as the slots of its worker see it: there is one."""
        return (self,)

    async def run(self) -> None:
        """Serve the worker until it is gone.

        Raises:
            LaneBrokenError: once the worker is gone or refuses calls; it may be in a group of exceptions.
        """
        self._dispatcher.has_places(self._slot, 1)
        self._dispatcher.up(self._slot, self)
        try:
            await self._run_attempts()
        finally:
            # The keeper calls ``down`` once it is known how the worker ended.
            self._dispatcher.paused(self._slot)
            if self._connection is not None:
                self._connection.close()

    async def _run_attempts(self) -> None:
        while True:
            attempt = await self._next.get()
            how = None
            if self._printed is not None:
                self._slot.output_since = await position_now(self._printed)
            try:
                how = await self._run_attempt(attempt)
            except Exception as error:
                if _is_broken_lane(error):
                    raise
                end_attempt(self._dispatcher, attempt, error)
            if attempt.verdict is not None:
                await self._until_yielded(attempt.verdict)
            if self._printed is not None:
                attempt.output = await output_since(self._printed, self._slot.output_since)
            slot, now = self._slot, time.monotonic()
            since = slot.head_since
            self._dispatcher.left(slot, attempt, now, time.time_ns() // 1_000)
            if how is not None or attempt.verdict is not None:
                self._dispatcher.finish(attempt, how or Failed(Failure.ATTEMPT, attempt.detail))
            self._dispatcher.progressed(now - since, 1)

    # ------------------------------------------------------------------ from the dispatcher

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Queue attempts to be run one after the other; the dispatcher sends this lane one at a time."""
        for attempt in attempts:
            attempt.conversation = self._new_conversation(attempt)
            self._next.put_nowait(attempt)

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """No-op: no attempt is sent ahead on this lane."""

    def interrupt(self, attempt: Attempt) -> None:
        """Cancel the attempt's call and its uploads."""
        self._exchange.abort(attempt)
        if self._call is not None:
            self._call.cancel()

    # ------------------------------------------------------------------ one attempt

    async def _ready(self) -> Connection:
        """Return a usable connection, making a new one if needed.

        Raises:
            LaneBrokenError: if the worker is not reachable within ``RECONNECT_S``; blameless, so that the
                attempt about to begin is not used up.
        """
        if self._connection is not None and self._connection.usable:
            return self._connection
        try:
            async with asyncio.timeout(RECONNECT_S):
                while True:
                    try:
                        self._connection = await connect(self._address)
                        return self._connection
                    except OSError:
                        await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise LaneBrokenError("the worker is not reachable", blameless=True) from None

    async def _run_attempt(self, attempt: Attempt) -> Completed | Failed | None:
        """Run one attempt and return how it ended; None if its end follows later or its verdict is known.

        Raises:
            LaneBrokenError: if the worker is gone, or refuses calls.
        """
        status = ""
        for pause_s in (0.0, *REFUSED_PAUSES_S):
            if pause_s:
                await asyncio.sleep(pause_s)
            connection = await self._ready()
            if attempt.verdict is not None:
                return None
            self._dispatcher.restart_clock(self._slot)
            call = self._call = Call(connection, _METHOD)
            try:
                how = await self._carry_on(call, attempt)
            finally:
                self._call = None
                call.cancel()
            if not call.refused or attempt.verdict is not None:
                return how
            # The worker never processed the call, because its server is going away or restarting.
            attempt.conversation = self._new_conversation(attempt)
            status = call.status
        detail = f"the worker refused {1 + len(REFUSED_PAUSES_S)} calls in a row: {status}"
        raise LaneBrokenError(detail, blameless=True)

    async def _carry_on(self, call: Call, attempt: Attempt) -> Completed | Failed | None:
        if not attempt.large:
            await self._write(call, whole_opening(attempt, self._link.limits))
            return await self._converse(call, attempt, None)
        async with asyncio.TaskGroup() as tasks:
            feeder = tasks.create_task(contained(self._dispatcher, attempt, self._feed(call, attempt)))
            how = await self._converse(call, attempt, feeder)
            feeder.cancel()
        return how

    async def _write(self, call: Call, messages: Sequence[bytes]) -> None:
        async with self._writing:
            with suppress(CallEndedError):  # the reader also meets the end of the call and handles it
                await call.write(messages)

    async def _feed(self, call: Call, attempt: Attempt) -> None:
        """Send an opening with large data, message by message."""
        conversation = attempt.conversation
        assert conversation is not None
        async for request in opening(attempt, self._link.limits):
            if attempt.verdict is not None or conversation.said_output or call.code is not None:
                break
            await self._write(call, [request.SerializeToString()])

    async def _converse(
        self, call: Call, attempt: Attempt, feeder: asyncio.Task[None] | None
    ) -> Completed | Failed | None:
        try:
            return await self._hear(call, attempt, feeder)
        except CallEndedError:  # raised when an answer is sent after the call has ended
            return await self._broken(call, attempt)

    async def _hear(self, call: Call, attempt: Attempt, feeder: asyncio.Task[None] | None) -> Completed | Failed | None:
        conversation = attempt.conversation
        assert conversation is not None
        while messages := await call.read():
            try:
                replies = [ProcessReply.FromString(message) for message in messages]
            except DecodeError as error:
                self._dispatcher.condemn(attempt, Verdict.FAILED, f"the worker sent bytes that are no reply: {error}")
                return None
            short = conversation.receive_short(replies)
            if short is not None:
                return await self._after_output(call, attempt, short, feeder)
            for place, reply in enumerate(replies, 1):
                effects = conversation.receive(reply)
                if not effects:
                    continue
                how = await self._exchange.carry_out(self, attempt, effects)
                if attempt.verdict is not None:
                    return None
                if reply.HasField("output"):
                    if place < len(replies):
                        return how if isinstance(how, Failed) else Failed(Failure.ATTEMPT, _TALKS_ON)
                    return await self._after_output(call, attempt, how, feeder)
                if how is not None:
                    assert isinstance(how, Failed), "only Output completes an attempt"
                    self._dispatcher.condemn(attempt, Verdict.of(how), how.detail)
                    return None
        if call.code is not grpc.StatusCode.OK:
            return await self._broken(call, attempt)
        for effect in conversation.ended():
            if isinstance(effect, Failed):
                return effect
        return None

    async def _after_output(
        self,
        call: Call,
        attempt: Attempt,
        how: Completed | Failed | None,
        feeder: asyncio.Task[None] | None,
    ) -> Completed | Failed | None:
        """Half-close and wait for the end of the call, which may still turn Output ok into a failure.

        Raises:
            LaneBrokenError: if the call failed and the worker is gone.
        """
        final = isinstance(how, Failed)
        try:
            async with asyncio.timeout(END_S):
                if feeder is not None:
                    await asyncio.wait([feeder])
                async with self._writing:
                    call.half_close()
                if await call.read():
                    return how if final else Failed(Failure.ATTEMPT, _TALKS_ON)
        except TimeoutError:
            return how  # the worker sent Output, so a call that it does not end is ignored
        if call.code is grpc.StatusCode.OK or final or attempt.verdict is not None:
            return how
        status = call.status
        if await ask(self._channel) is Health.SILENT:
            raise LaneBrokenError(f"the worker is gone: {status}")
        return Failed(Failure.ATTEMPT, f"the worker's call failed after Output ok: {status}")

    async def _broken(self, call: Call, attempt: Attempt) -> Failed | None:
        """Return the failure of a call that ended with an error; None if the agent cancelled it or it was refused.

        Raises:
            LaneBrokenError: if the worker is gone.
        """
        if attempt.verdict is not None or call.refused:
            return None
        # The status code does not show which it is: a handler may fail with UNAVAILABLE, perhaps of its own
        # database, and of a worker that died nothing is known but that its connection was lost.
        if await ask(self._channel) is Health.SILENT:
            raise LaneBrokenError(f"the worker is gone: {call.status}")
        return Failed(Failure.ATTEMPT, f"the worker's call failed: {call.status}")

    async def _until_yielded(self, verdict: Verdict) -> None:
        # A worker that broke the protocol or a limit was sending replies, so it does not hang.
        believed = not self._spawned or verdict in (Verdict.FAILED, Verdict.REFUSED)
        while True:
            asked_at = time.monotonic()
            health = await ask(self._channel)
            if health in (Health.SERVING, Health.NOT_SERVING):
                return
            if health is Health.UNIMPLEMENTED and believed:
                return
            await asyncio.sleep(max(0.0, asked_at + INTERVAL_S - time.monotonic()))

    async def send(self, attempt: Attempt, requests: Sequence[ProcessRequest]) -> None:
        """Send messages of the running attempt, waiting while the worker is behind. No-op once it has ended."""
        for request in requests:
            async with self._writing:
                # Checked under the lock, because the attempt may have ended while other tasks wrote.
                if self._call is None or attempt.over:
                    return
                await self._call.write([request.SerializeToString()])

    def _new_conversation(self, attempt: Attempt) -> Conversation:
        return Conversation(attempt.task_id, attempt.expected_output_keys, self._link.limits)


def _is_broken_lane(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.subgroup(LaneBrokenError) is not None
    return isinstance(error, LaneBrokenError)
