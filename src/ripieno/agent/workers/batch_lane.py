"""The lane to a worker made with our SDK: many attempts in a message, one long-lived stream.

Attempts are sent ahead; the worker runs them one at a time in the order sent. The messages of
each attempt are exactly those of ``Worker.Process``, and the same ``Conversation`` processes them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from ripieno.agent.attempts.attempt import Attempt, Verdict
from ripieno.agent.attempts.opening import Opener, items_with_files, opening
from ripieno.agent.conversation.conversation import Conversation
from ripieno.agent.conversation.effects import Effect, OutputReceived, ProcessRequest
from ripieno.agent.scheduling.dispatcher import Dispatcher
from ripieno.agent.scheduling.faults import MachineFaultError, contained, end_attempt
from ripieno.agent.scheduling.slots import Lane, Slot
from ripieno.agent.transport.calls import Call, CallEndedError
from ripieno.agent.transport.channels import describe, reraise_own_cancellation
from ripieno.agent.transport.http2 import connect
from ripieno.agent.transport.keepalive import SDK_WORKER
from ripieno.agent.uplink.link import Link
from ripieno.agent.workers.exchange import Exchange
from ripieno.agent.workers.lanes import METHOD, MOST_PLACES, LaneBrokenError, Place
from ripieno.domain.outcomes import Completed, Failed, Failure
from ripieno.printed import Position, Printed
from ripieno.wire.outcomes import directory_to_wire, failure_value, output_from_wire, stored_from_wire
from ripieno.wire.progress import progress_from_wire
from ripieno.wire.protos.v1 import batch_worker_pb2

BatchRequest = batch_worker_pb2.BatchRequest
BatchReply = batch_worker_pb2.BatchReply
_log = logging.getLogger(__name__)

#: Most names of objects that a worker is given at once.
MOST_NAMES = 16


class BatchLane:
    """Serves one worker over ``BatchWorker.Process``."""

    ahead = True

    def __init__(
        self,
        address: str,
        slot: Slot,
        dispatcher: Dispatcher,
        exchange: Exchange,
        link: Link,
        kill: Callable[[str], bool],
        printed: Printed | None = None,
    ) -> None:
        self.kill = kill
        self._printed = printed
        self._address = address
        self._slot = slot
        self._dispatcher = dispatcher
        self._exchange = exchange
        self._link = link
        self._attempts: dict[int, Attempt] = {}
        self._number = 0
        #: This lane as the slots of the worker's places see it.
        self.faces: list[Lane] = [self]
        #: Whether the worker was told where it may write large results.
        self._offered = False
        self._opener = Opener()
        #: Whether the worker opens large data where this agent keeps it.
        self._reads_scratch = False
        #: Names of objects that the worker has and has not used, and how many it was given at its last request.
        self._object_names: set[str] = set()
        self._spare_names = 0
        #: Encoded BatchRequest messages to send. Joined, they are one message.
        self._pending: list[bytes] = []
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._call: Call | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Serve the worker until the stream breaks.

        Raises:
            LaneBrokenError: if the worker cannot be reached, or, in a group of exceptions, once the stream breaks.
        """
        try:
            # Over a unix socket no PING is needed: the end of a process on this machine is always noticed, and
            # a process may be stopped for as long as it likes.
            keepalive = None if self._address.startswith("unix:") else SDK_WORKER
            connection = await connect(self._address, keepalive=keepalive)
        except OSError as error:
            raise LaneBrokenError(f"the worker is not reachable: {error}", blameless=True) from error
        self._call = Call(connection, METHOD.encode())
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                scratch = directory_to_wire(self._exchange.scratch)
                self._pending.append(BatchRequest(scratch=scratch, knows_places=True).SerializeToString())
                self._wake.set()
                tasks.create_task(self._write())
                self._dispatcher.up(self._slot, self)
                try:
                    await self._read(self._call)
                finally:
                    # The keeper calls ``down`` once it is known how the worker ended.
                    self._dispatcher.paused(self._slot)
        finally:
            connection.close()
            # Attempts that run again upload anew, so uploads of the first run must not complete them.
            for attempt in self._attempts.values():
                self._exchange.abort(attempt)

    # ------------------------------------------------------------------ from the dispatcher

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Send attempts to the worker; those with large data message by message."""
        limits = self._link.limits
        pending, table, number = self._pending, self._attempts, self._number
        encode = self._opener.encode
        if not self._offered:
            self._offer_objects()
        if self._printed is not None and self._slot.inbox[0] is attempts[0]:
            # What was printed while the worker had nothing to do is nobody's.
            self._slot.output_since = self._printed.position(patience_s=0) or self._slot.output_since
        for attempt in attempts:
            number += 1
            attempt.number = number
            table[number] = attempt
            attempt.conversation = Conversation(attempt.task_id, attempt.expected_output_keys, limits)
            if attempt.large:
                assert self._tasks is not None
                self._tasks.create_task(contained(self._dispatcher, attempt, self._feed(attempt)))
                continue
            pending.append(encode(attempt, limits))
        self._number = number
        self._wake.set()

    def start_in(self, place: int, attempts: Sequence[Attempt]) -> None:
        """Send attempts to another place of the worker than the first."""
        for attempt in attempts:
            attempt.place = place
        self.start(attempts)

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Ask the worker to give back attempts that it has not begun."""
        for attempt in attempts:
            self._queue(BatchRequest.Item(attempt=attempt.number, withdraw=True))

    def interrupt(self, attempt: Attempt) -> None:
        """Stop an attempt, whether it has begun or not, and its uploads."""
        self._exchange.abort(attempt)
        self._queue(BatchRequest.Item(attempt=attempt.number, cancel=True))

    def _offer_objects(self) -> None:
        """Tell the worker where it may write large results. Called with the first attempts, hence after Welcome."""
        if self._link.objects is not None:
            objects = BatchRequest.Objects(
                directory=directory_to_wire(self._link.objects),
                larger_than_bytes=self._link.limits.inline_limit_bytes,
            )
            self._pending.append(BatchRequest(objects=objects).SerializeToString())
            self._offered = True

    def _has_places(self, places: int) -> None:
        """Take in that the worker runs so many attempts at a time. What it prints is nobody's then."""
        if len(self.faces) > 1:
            return
        places = min(places, MOST_PLACES)
        self._dispatcher.has_places(self._slot, places)
        if places == 1:
            return
        self._printed = self._slot.printed = self._slot.output_since = None
        self.faces += [Place(self, number) for number in range(1, places)]
        for each, face in zip(self._slot.group, self.faces, strict=True):
            self._dispatcher.up(each, face)

    def _queue(self, item: BatchRequest.Item) -> None:
        self._pending.append(BatchRequest(items=[item]).SerializeToString())
        self._wake.set()

    # ------------------------------------------------------------------ to the worker

    async def send(self, attempt: Attempt, requests: Sequence[ProcessRequest]) -> None:
        """Send messages of a running attempt, waiting while the worker is behind."""
        await self._send(BatchRequest.Item(attempt=attempt.number, place=attempt.place, requests=requests))

    async def _send(self, item: BatchRequest.Item) -> None:
        assert self._call is not None
        async with self._writing:
            await self._call.write([BatchRequest(items=[item]).SerializeToString()])

    async def _write(self) -> None:
        assert self._call is not None
        with suppress(CallEndedError):  # the reader also meets the end of the call and handles it
            await self._call.write([])
            while True:
                await self._wake.wait()
                self._wake.clear()
                async with self._writing:
                    batch, self._pending = self._pending, []
                    if batch:
                        await self._call.write([b"".join(batch)])

    async def _feed(self, attempt: Attempt) -> None:
        """Send an attempt with large data, message by message."""
        number, limits = attempt.number, self._link.limits
        with suppress(CallEndedError):  # the reader also meets the end of the call and handles it
            if self._reads_scratch:
                for item in items_with_files(attempt, limits):
                    if attempt.over or attempt.verdict is not None or attempt.number != number:
                        return
                    await self._send(item)
                return
            async for request in opening(attempt, limits):
                if attempt.over or attempt.verdict is not None or attempt.number != number:
                    return
                await self.send(attempt, [request])

    # ------------------------------------------------------------------ from the worker

    async def _read(self, call: Call) -> None:
        try:
            while messages := await call.read():
                for message in messages:
                    await self._take(BatchReply.FromString(message))
        except CallEndedError:
            pass  # an answer was being sent when the call ended; its status is raised below
        except DecodeError as error:
            raise LaneBrokenError(f"the worker sent bytes that are no reply: {error}") from error
        if call.code is grpc.StatusCode.OK:
            raise LaneBrokenError("the worker ended its stream")
        raise LaneBrokenError(f"the worker's stream broke: {call.status}")

    async def _take(self, message: BatchReply) -> None:
        dispatcher, attempts, group = self._dispatcher, self._attempts, self._slot.group
        now, now_us = time.monotonic(), time.time_ns() // 1_000
        #: How many attempts have left each slot, and since when they ran there.
        left_from: dict[Slot, tuple[int, float]] = {}
        withdrawn: dict[Slot, list[Attempt]] = {}
        self._reads_scratch |= message.reads_scratch
        if message.places:
            self._has_places(message.places)
        if message.wants_object:
            # Twice as many as last time: the worker needs more than one at a time, or its names grew old.
            self._spare_names = min(2 * self._spare_names, MOST_NAMES) or 1
            self._name_objects(self._spare_names, at_once=True)
        for item in message.items:
            attempt = attempts.get(item.attempt)
            if attempt is None:
                continue  # the attempt has ended, so further replies for it are ignored
            slot = group[attempt.place]
            if item.withdrawn:
                del attempts[item.attempt]
                if attempt.large and not attempt.withdrawing and attempt.verdict is None:
                    self._refused(attempt, item.failed)
                else:
                    withdrawn.setdefault(slot, []).append(attempt)
                continue
            if item.HasField("printed"):
                attempt.output = output_from_wire(item.printed.output)
                slot.output_since = Position(item.printed.stdout_at, item.printed.stderr_at)
            if item.HasField("progress"):
                attempt.progress = progress_from_wire(item.progress)
            conversation = attempt.conversation
            assert conversation is not None
            how: Completed | Failed | None = None
            try:
                if attempt.verdict is None and not item.stored:
                    how = conversation.receive_short(item.replies)
                left = how is not None
                if not left:
                    how, left = await self._hear(attempt, conversation, item)
            except CallEndedError:
                raise
            except Exception as error:  # noqa: BLE001 - a bug here ends this attempt alone
                end_attempt(dispatcher, attempt, error)
                how, left = None, _is_last(item)
            if left:
                del attempts[item.attempt]
                ended, since = left_from.get(slot) or (0, slot.head_since)
                left_from[slot] = ended + 1, since
                dispatcher.left(slot, attempt, now, now_us)
                if how is not None or attempt.verdict is not None:
                    dispatcher.finish(attempt, how or _SILENT)
        for slot, given_back in withdrawn.items():
            dispatcher.withdrawn(slot, given_back)
        for ended, since in left_from.values():
            dispatcher.progressed(now - since, ended)

    def _refused(self, attempt: Attempt, why: str) -> None:
        """Give back an attempt whose data the worker has no room for, or does not find on this machine's disk."""
        if self._dispatcher.refused(self._slot.group[attempt.place], attempt):
            assert self._tasks is not None
            self._tasks.create_task(contained(self._dispatcher, attempt, _raise(MachineFaultError(why))))

    async def _hear(
        self, attempt: Attempt, conversation: Conversation, item: BatchReply.Item
    ) -> tuple[Completed | Failed | None, bool]:
        """Process a worker's replies for one attempt.

        Returns:
            How the attempt ended, if it did, and whether the worker is done with it.
        """
        if item.stored and attempt.verdict is None:
            self._take_stored(attempt, item)
        how: Completed | Failed | None = None
        left = False
        for reply in item.replies:
            if attempt.verdict is not None:
                left = left or reply.HasField("output")
                continue
            effects = conversation.receive(reply)
            if not effects:
                continue
            last = effects[-1]
            if type(last) is Completed:
                return last, True
            how, left = await self._carry_out(attempt, effects, reply.HasField("output"))
        if item.HasField("failed"):
            how, left = Failed(Failure.ATTEMPT, item.failed), True
        if isinstance(how, Failed) and item.HasField("failure_value"):
            how = how._replace(value=failure_value(item.failure_value))
        return how, left

    def _take_stored(self, attempt: Attempt, item: BatchReply.Item) -> None:
        """Take large results that the worker has written into the object store itself."""
        conversation = attempt.conversation
        assert conversation is not None
        for each in item.stored:
            name = each.object.name
            if name in self._object_names:
                self._object_names.remove(name)
                # A new name replaces the used one, with the next message that is sent anyway.
                self._name_objects(1, at_once=False)
                effects = conversation.receive_stored(each.key, stored_from_wire(each.object))
            else:
                effects = conversation.violated(f"object {name!r} is not one that it was given a name for")
            for effect in effects:
                assert isinstance(effect, Failed)
                self._dispatcher.condemn(attempt, Verdict.FAILED, effect.detail)

    def _name_objects(self, count: int, *, at_once: bool) -> None:
        """Send the worker ``count`` names of objects for large results; not ``at_once``: with the next message."""
        assert self._tasks is not None
        self._tasks.create_task(self._send_names(count, at_once=at_once))

    async def _send_names(self, count: int, *, at_once: bool) -> None:
        message = BatchRequest(no_object=True)
        if self._link.objects is not None:
            try:
                names = [await self._link.names.take() for _ in range(count)]
            except (grpc.RpcError, asyncio.CancelledError) as error:
                reraise_own_cancellation()
                _log.warning("no name for an object: %s; its data comes by the stream", describe(error))
            else:
                self._object_names.update(names)
                message = BatchRequest(object_names=names)
        self._pending.append(message.SerializeToString())
        if at_once:
            self._wake.set()

    async def _carry_out(
        self, attempt: Attempt, effects: Sequence[Effect], is_output: bool
    ) -> tuple[Completed | Failed | None, bool]:
        """Carry out the effects of a reply.

        Returns:
            How the attempt ended, if it did, and whether the worker is done with it.
        """
        how = await self._exchange.carry_out(self, attempt, effects)
        if isinstance(effects[-1], OutputReceived):
            return None, True
        if isinstance(how, Failed) and not is_output:
            self._dispatcher.condemn(attempt, Verdict.of(how), how.detail)
            return None, False
        return how, how is not None


async def _raise(error: Exception) -> None:
    raise error


def _is_last(item: BatchReply.Item) -> bool:
    """Whether ``item`` is the last that a worker sends for an attempt."""
    return item.HasField("failed") or any(reply.HasField("output") for reply in item.replies)


#: Placeholder for the end of an attempt whose verdict is known.
_SILENT = Failed(Failure.ATTEMPT, "")
