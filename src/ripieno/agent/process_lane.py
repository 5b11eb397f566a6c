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
from typing import TypeAlias

import grpc.aio

from ripieno.agent.attempt import Attempt, Verdict
from ripieno.agent.batch_lane import LaneBrokenError
from ripieno.agent.channels import reraise_own_cancellation, status_of
from ripieno.agent.conversation import Conversation
from ripieno.agent.dispatcher import Dispatcher
from ripieno.agent.effects import ProcessRequest
from ripieno.agent.exchange import Exchange
from ripieno.agent.health import INTERVAL_S, Health, ask
from ripieno.agent.link import Link
from ripieno.agent.opening import opening
from ripieno.agent.slots import Slot
from ripieno.domain.outcomes import Completed, Failed, Failure
from ripieno.wire.protos.armonik_v2 import worker_service_pb2, worker_service_pb2_grpc

ProcessReply = worker_service_pb2.ProcessReply

#: How long a worker may take to end the call after its Output.
END_S = 2.0
#: How long a connection that was fine a moment ago may take to be fine again.
RECONNECT_S = 1.0
_TALKS_ON = "the worker broke the protocol: a message after Output, which must be the last one"

_Call: TypeAlias = "grpc.aio.StreamStreamCall[ProcessRequest, ProcessReply]"


class ProcessLane:
    """One worker over ``Worker.Process``.

    Args:
        spawned: The worker is a process of ours, which ``kill`` ends.
    """

    ahead = False

    def __init__(
        self,
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
        self._process = worker_service_pb2_grpc.WorkerStub(channel).Process
        self._slot = slot
        self._dispatcher = dispatcher
        self._exchange = exchange
        self._link = link
        self._spawned = spawned
        self._next: asyncio.Queue[Attempt] = asyncio.Queue()
        self._call: _Call | None = None
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Serve the worker until it is gone.

        Raises:
            LaneBrokenError: it is gone.
        """
        self._dispatcher.up(self._slot, self)
        while True:
            attempt = await self._next.get()
            await self._ensure_ready()
            how = await self._run_attempt(attempt)
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
            attempt.conversation = Conversation(attempt.task_id, attempt.expected_output_keys, self._link.limits)
            self._next.put_nowait(attempt)

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Nothing is ever sent ahead."""

    def interrupt(self, attempt: Attempt) -> None:
        """Cancel the call."""
        self._exchange.abort(attempt)
        if self._call is not None:
            self._call.cancel()

    # ------------------------------------------------------------------ one attempt

    async def _ensure_ready(self) -> None:
        """A worker that is not there when an attempt is about to begin does not use it up."""
        if self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(RECONNECT_S):
                while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    await self._channel.wait_for_state_change(state)
        except TimeoutError:
            raise LaneBrokenError("the worker is not reachable", blameless=True) from None

    async def _run_attempt(self, attempt: Attempt) -> Completed | Failed | None:
        """Run one attempt; None when its end follows later or its verdict is known."""
        if attempt.verdict is not None:
            return None
        self._dispatcher.restart_clock(self._slot)
        call: _Call = self._process()
        self._call = call
        fed = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                feeder = tasks.create_task(self._feed(call, attempt, fed))
                how = await self._converse(call, attempt, fed)
                # A write to a call that was cancelled before it was sent would wait for ever.
                feeder.cancel()
            return how
        finally:
            self._call = None
            call.cancel()

    async def _feed(self, call: _Call, attempt: Attempt, fed: asyncio.Event) -> None:
        conversation = attempt.conversation
        assert conversation is not None
        try:
            async for request in opening(attempt, self._link.limits):
                if attempt.verdict is not None or conversation.said_output:
                    break
                async with self._writing:
                    await call.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            reraise_own_cancellation()
        except OSError as error:
            self._dispatcher.condemn(attempt, Verdict.RELEASED, f"its data cannot be read: {error}")
        finally:
            fed.set()

    async def _converse(self, call: _Call, attempt: Attempt, fed: asyncio.Event) -> Completed | Failed | None:
        conversation = attempt.conversation
        assert conversation is not None
        try:
            async for reply in call:
                effects = conversation.receive(reply)
                if not effects:
                    continue
                how = await self._exchange.carry_out(self, attempt, effects)
                if attempt.verdict is not None:
                    return None
                if reply.HasField("output"):
                    return await self._after_output(call, attempt, how, fed)
                if how is not None:
                    self._dispatcher.condemn(attempt, Verdict.FAILED, _detail(how))
                    return None
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            reraise_own_cancellation()
            return await self._broken(call, attempt)
        for effect in conversation.ended():
            if isinstance(effect, Failed):
                return effect
        return None

    async def _after_output(
        self, call: _Call, attempt: Attempt, how: Completed | Failed | None, fed: asyncio.Event
    ) -> Completed | Failed | None:
        """Half-close and wait for the end of the call, which may still spoil an ``ok``."""
        final = isinstance(how, Failed)
        try:
            async with asyncio.timeout(END_S):
                await fed.wait()
                async with self._writing:
                    await call.done_writing()
                async for _ in call:
                    return how if final else Failed(Failure.ATTEMPT, _TALKS_ON)
        except TimeoutError:
            return how  # it said how it ended; the rest is bad manners
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            reraise_own_cancellation()
            if final or attempt.verdict is not None:
                return how
            code, details = await status_of(call)
            if await ask(self._channel) is Health.SILENT:
                raise LaneBrokenError(f"the worker is gone: {code.name}: {details}") from None
            return Failed(Failure.ATTEMPT, f"the worker's call failed after Output ok: {code.name}: {details}")
        return how

    async def _broken(self, call: _Call, attempt: Attempt) -> Failed | None:
        """The call ended badly: by us, by the handler, or because the worker is gone."""
        if attempt.verdict is not None:
            return None
        code, details = await status_of(call)
        # The code does not tell: a handler may fail with UNAVAILABLE, say of a database of its
        # own, and of a dead worker gRPC says UNKNOWN or INTERNAL when it notices in a write.
        if await ask(self._channel) is Health.SILENT:
            raise LaneBrokenError(f"the worker is gone: {code.name}: {details}")
        return Failed(Failure.ATTEMPT, f"the worker's call failed: {code.name}: {details}")

    async def _until_yielded(self, verdict: Verdict) -> None:
        # A worker that was talking, if nonsense, is not one that hangs.
        believed = not self._spawned or verdict is Verdict.FAILED
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
                await self._call.write(request)


def _detail(how: Completed | Failed) -> str:
    return how.detail if isinstance(how, Failed) else ""
