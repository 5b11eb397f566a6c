"""One ``Process`` call from the worker's side, message by message."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, NoReturn

import grpc
import grpc.aio

from protocol import replies
from protocol.attempt_record import Attempt, GivenTask, ProtocolBreachError, assemble, kind_of
from protocol.messages import CHUNK
from protocol.stubs import objects_pb2
from protocol.stubs.worker_service_pb2 import ProcessReply, ProcessRequest

HALF_CLOSE_WITHIN_S = 10.0
_CANCELLATION_FOLLOWS_S = 1.0
#: Messages read ahead of the behaviour, so that a half-close is seen when it comes.
_AHEAD = 16

Context = grpc.aio.ServicerContext[Any, Any]
Kind = Literal["resource", "common_data", "direct_data"]
_REQUESTS: dict[Kind, Callable[[str, str], ProcessReply]] = {
    "resource": replies.resource,
    "common_data": replies.common_data,
    "direct_data": replies.direct_data,
}


class DataRefusedError(Exception):
    """The agent answered a data request by an error."""


class Conversation:
    """The call as a behaviour uses it.

    Attributes:
        attempt: The record of it.
        first: The message that opened it (``init_request``).
    """

    def __init__(self, context: Context, attempt: Attempt, first: ProcessRequest) -> None:
        self.attempt = attempt
        self.first = first
        self._context = context
        self._arrived: asyncio.Queue[ProcessRequest | None] = asyncio.Queue(_AHEAD)
        self._reader: asyncio.Task[None] | None = None
        self._set_aside: list[ProcessRequest] = []
        self._requests = 0

    async def __aenter__(self) -> "Conversation":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.attempt.ended_at = time.monotonic()
        if self._reader is not None:
            self._reader.cancel()
            # Also an error of the read itself: the call is over, and the attempt says how.
            with contextlib.suppress(asyncio.CancelledError, grpc.RpcError, asyncio.InvalidStateError):
                await self._reader

    # ------------------------------------------------------------ receiving

    def start_reading(self) -> None:
        """Read from now on whatever comes, without being asked for it."""
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        while (message := await self._context.read()) is not grpc.aio.EOF:
            self.attempt.came(message)
            await self._arrived.put(message)
        self.attempt.half_closed_by_agent()
        await self._arrived.put(None)

    async def receive(self) -> ProcessRequest | None:
        """The next message; None for the half-close."""
        self.start_reading()
        assert self._reader is not None
        get = asyncio.ensure_future(self._arrived.get())
        await asyncio.wait({get, self._reader}, return_when=asyncio.FIRST_COMPLETED)
        if not get.done() and self._arrived.empty():
            get.cancel()
            self._reader.result()
        return await get

    async def task(self) -> GivenTask:
        """Read the task up to ``last_data``, its order checked."""
        received = [self.first]
        while kind_of(received[-1]) != "compute.init_data.last_data":
            received.append(await self._demand("last_data"))
        return assemble(received)

    async def answer(self, request_id: str) -> ProcessRequest:
        """The next message that answers this request; others wait their turn."""
        for index, message in enumerate(self._set_aside):
            if _reply_id(message) == request_id:
                return self._set_aside.pop(index)
        while _reply_id(message := await self._demand(f"the answer to {request_id!r}")) != request_id:
            self._set_aside.append(message)
        return message

    async def _demand(self, what: str) -> ProcessRequest:
        message = await self.receive()
        if message is None:
            await unless_cancelled()
            raise ProtocolBreachError(f"{self.attempt.task_id}: half-close before {what}")
        return message

    # ------------------------------------------------------------ sending

    async def send(self, *messages: ProcessReply) -> None:
        """Send these messages as they are, legal or not."""
        for reply in messages:
            self.attempt.went(reply)
            await self._context.write(reply)

    def request_id(self) -> str:
        """A request id not used yet in this call."""
        self._requests += 1
        return f"request {self._requests}"

    async def send_result(self, key: str, data: bytes) -> None:
        """Send one whole result."""
        await self.send(*replies.whole_result(self.request_id(), key, data))

    async def ok(self) -> None:
        """Output ``ok``."""
        await self.send(replies.output_ok())

    async def error(self, details: str) -> None:
        """Output ``error``."""
        await self.send(replies.output_error(details))

    async def fail(self, details: str, code: grpc.StatusCode = grpc.StatusCode.INTERNAL) -> NoReturn:
        """End the call with an error status."""
        self.attempt.log.append(f"> status {code.name}")
        await self._context.abort(code, details)

    async def sub_tasks(
        self,
        tasks: Iterable[objects_pb2.TaskRequest],
        task_options: objects_pb2.TaskOptions | None = None,
        *,
        large: bool = False,
    ) -> objects_pb2.CreateTaskReply:
        """Create sub-tasks and return the agent's answer."""
        request_id = self.request_id()
        if large:
            await self.send(*replies.large_sub_tasks(request_id, tasks, task_options))
        else:
            await self.send(replies.small_sub_tasks(request_id, tasks, task_options))
        return (await self.answer(request_id)).create_task.reply

    async def data(self, kind: Kind, key: str) -> bytes:
        """Ask for the bytes of a result.

        Raises:
            DataRefusedError: the agent says that there are none for us.
        """
        request_id = self.request_id()
        await self.send(_REQUESTS[kind](request_id, key))
        reply = await self._data_reply(request_id, kind)
        assert reply.WhichOneof("type") == "init" and reply.init.key == key, reply
        if reply.init.WhichOneof("has_result") == "error":
            assert reply.init.error
            raise DataRefusedError(reply.init.error)
        pieces = [reply.init.data.data]
        while (reply := await self._data_reply(request_id, kind)).data.WhichOneof("type") == "data":
            pieces.append(reply.data.data)
        assert reply.data.data_complete, reply
        assert max(map(len, pieces)) <= CHUNK
        return b"".join(pieces)

    async def _data_reply(self, request_id: str, kind: Kind) -> ProcessRequest.DataReply:
        message = await self.answer(request_id)
        assert message.WhichOneof("type") == kind, f"asked for {kind}, answered by {kind_of(message)}"
        reply = getattr(message, kind)
        assert isinstance(reply, ProcessRequest.DataReply)
        return reply

    async def finished(self) -> None:
        """After Output: wait for the agent's half-close, as old workers do."""
        async with asyncio.timeout(HALF_CLOSE_WITHIN_S):
            while await self.receive() is not None:
                pass


async def unless_cancelled() -> None:
    """Return when a call that came to its end was not cancelled.

    gRPC tells the reader of a cancelled call the same as that of a half-closed one; the
    cancellation of the handler follows.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CANCELLATION_FOLLOWS_S):
            await asyncio.Event().wait()


def _reply_id(message: ProcessRequest) -> str:
    part = getattr(message, message.WhichOneof("type") or "")
    return str(getattr(part, "reply_id", ""))


Behaviour = Callable[[Conversation], Awaitable[None]]


async def echo(call: Conversation) -> None:
    """Every expected output gets the payload."""
    task = await call.task()
    for key in task.expected_output_keys:
        await call.send_result(key, task.payload)
    await call.ok()


def making(**results: bytes) -> Behaviour:
    """Send these results, then ``ok``."""
    return making_results(results)


def making_results(results: dict[str, bytes]) -> Behaviour:
    """Send these results, then ``ok``."""

    async def behaviour(call: Conversation) -> None:
        await call.task()
        for key, data in results.items():
            await call.send_result(key, data)
        await call.ok()

    return behaviour


def saying(*messages: ProcessReply) -> Behaviour:
    """Read the task, then send exactly these messages and end the call."""

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.send(*messages)

    return behaviour


def erring(details: str = "boom") -> Behaviour:
    """Output ``error``."""
    return saying(replies.output_error(details))


def failing(details: str = "broken", code: grpc.StatusCode = grpc.StatusCode.INTERNAL) -> Behaviour:
    """End the call with an error status."""

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.fail(details, code)

    return behaviour


def held(gate: asyncio.Event, then: Behaviour = echo) -> Behaviour:
    """Wait at the gate before anything else."""

    async def behaviour(call: Conversation) -> None:
        await gate.wait()
        await then(call)

    return behaviour


def by_attempt(*behaviours: Behaviour) -> Behaviour:
    """The first attempt does the first, and so on; the last stands for all that follow."""
    remaining: Sequence[Behaviour] = behaviours
    made = 0

    async def behaviour(call: Conversation) -> None:
        nonlocal made
        chosen = remaining[min(made, len(remaining) - 1)]
        made += 1
        await chosen(call)

    return behaviour


def answering_late(key: str, data: bytes, answered: asyncio.Event) -> Callable[[Conversation], Awaitable[None]]:
    """Runs until it is cancelled, and sends a result and an ok all the same; ``answered`` is set when it has."""

    async def late(call: Conversation) -> None:
        await call.task()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            call.attempt.cancelled = True
            try:
                await call.send_result(key, data)
                await call.ok()
            finally:
                answered.set()
            raise

    return late
