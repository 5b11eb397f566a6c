"""The way to any worker of the protocol: one ``Process`` call per attempt, one at a time.

The agent half-closes after Output and sends nothing more; then it waits for the end of
the call, since a call that fails after all is a failed attempt.

After an interruption the call is cancelled, which tells nothing about the handler: gRPC has
no word for "it has stopped". What there is for evidence is ``HealthCheck``: a worker that
answers it is taken to have yielded. One that does not, or that does not implement it, is
replaced after the grace if it is ours to replace, and left alone until it answers if not.
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
from ripieno.agent.scheduling.slots import Slot
from ripieno.agent.transport.calls import Call, CallEndedError
from ripieno.agent.transport.http2 import Connection, connect
from ripieno.agent.uplink.link import Link
from ripieno.agent.workers.batch_lane import LaneBrokenError
from ripieno.agent.workers.exchange import Exchange
from ripieno.agent.workers.health import INTERVAL_S, Health, ask
from ripieno.domain.outcomes import Completed, Failed, Failure
from ripieno.wire.protos.armonik_v2 import worker_service_pb2

ProcessReply = worker_service_pb2.ProcessReply

_METHOD = b"/ArmoniK.api.grpc.v1.Worker/Process"

#: How long a worker may take to end the call after its Output.
END_S = 2.0
#: How long a connection that was fine a moment ago may take to be fine again, and how often to try.
RECONNECT_S = 1.0
RETRY_S = 0.02
#: Pauses before a call is made again that the worker's server never looked at. A server that refuses more
#: often is not one that goes away or starts anew.
REFUSED_PAUSES_S = (0.05, 0.25)
_TALKS_ON = "the worker broke the protocol: a message after Output, which must be the last one"


class ProcessLane:
    """One worker over ``Worker.Process``.

    Args:
        address: Where the worker serves: for its calls.
        channel: The same: for questions after its health.
        spawned: The worker is a process of ours, which ``kill`` ends.
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
        *,
        spawned: bool,
    ) -> None:
        self.kill = kill
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

    async def run(self) -> None:
        """Serve the worker until it is gone.

        Raises:
            LaneBrokenError: it is gone.
        """
        self._dispatcher.up(self._slot, self)
        try:
            await self._run_attempts()
        finally:
            # ``down`` follows, but not before it is known how the worker ended.
            self._dispatcher.paused(self._slot)
            if self._connection is not None:
                self._connection.close()

    async def _run_attempts(self) -> None:
        while True:
            attempt = await self._next.get()
            how = None
            try:
                how = await self._run_attempt(attempt)
            except Exception as error:
                if _is_broken_lane(error):
                    raise
                end_attempt(self._dispatcher, attempt, error)
            if attempt.verdict is not None:
                await self._until_yielded(attempt.verdict)
            slot, now = self._slot, time.monotonic()
            since = slot.head_since
            self._dispatcher.left(slot, attempt, now, time.time_ns() // 1_000)
            if how is not None or attempt.verdict is not None:
                self._dispatcher.finish(attempt, how or Failed(Failure.ATTEMPT, attempt.detail))
            self._dispatcher.progressed(now - since, 1)

    # ------------------------------------------------------------------ from the dispatcher

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Begin an attempt; the window of this lane is one."""
        for attempt in attempts:
            attempt.conversation = self._new_conversation(attempt)
            self._next.put_nowait(attempt)

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Nothing is ever sent ahead."""

    def interrupt(self, attempt: Attempt) -> None:
        """Cancel the call."""
        self._exchange.abort(attempt)
        if self._call is not None:
            self._call.cancel()

    # ------------------------------------------------------------------ one attempt

    async def _ready(self) -> Connection:
        """A worker that is not there when an attempt is about to begin does not use it up."""
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
        """Run one attempt; None when its end follows later or its verdict is known.

        Raises:
            LaneBrokenError: the worker is gone, or refuses calls.
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
            # The worker never looked at it: its server is going away, or starting anew.
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
            with suppress(CallEndedError):  # the reader sees it, too, and knows why
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
        except CallEndedError:  # met while an answer was sent
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
        """Half-close and wait for the end of the call, which may still spoil an ``ok``."""
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
            return how  # it said how it ended; the rest is bad manners
        if call.code is grpc.StatusCode.OK or final or attempt.verdict is not None:
            return how
        status = call.status
        if await ask(self._channel) is Health.SILENT:
            raise LaneBrokenError(f"the worker is gone: {status}")
        return Failed(Failure.ATTEMPT, f"the worker's call failed after Output ok: {status}")

    async def _broken(self, call: Call, attempt: Attempt) -> Failed | None:
        """The call ended badly: by us, by the handler, or because the worker is gone."""
        if attempt.verdict is not None or call.refused:
            return None
        # The code does not tell: a handler may fail with UNAVAILABLE, say of a database of its
        # own, and of a worker that died we know no more than that its connection was lost.
        if await ask(self._channel) is Health.SILENT:
            raise LaneBrokenError(f"the worker is gone: {call.status}")
        return Failed(Failure.ATTEMPT, f"the worker's call failed: {call.status}")

    async def _until_yielded(self, verdict: Verdict) -> None:
        # A worker that was talking, if nonsense, is not one that hangs.
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
        """Send messages of the attempt that runs; waits while the worker is behind."""
        for request in requests:
            async with self._writing:
                # Looked at here, inside: while others wrote, the attempt may have ended.
                if self._call is None or attempt.over:
                    return
                await self._call.write([request.SerializeToString()])

    def _new_conversation(self, attempt: Attempt) -> Conversation:
        return Conversation(attempt.task_id, attempt.expected_output_keys, self._link.limits)


def _is_broken_lane(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.subgroup(LaneBrokenError) is not None
    return isinstance(error, LaneBrokenError)
