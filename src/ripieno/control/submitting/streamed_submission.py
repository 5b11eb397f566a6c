"""Streamed submissions, read in bounded memory.

Payloads that are too large for the database are written to the object store as they arrive. So are
small ones once a stream has brought many of them: the bytes that are kept until the end of a stream
are bounded, however many tasks it has.
"""

import asyncio
from collections.abc import AsyncIterator

from ripieno.control.calls.arrivals import Arrivals
from ripieno.control.calls.limits import ControlLimits
from ripieno.domain.data import Data
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.options import TaskOptions
from ripieno.domain.submission import NewTask
from ripieno.objects import ObjectWriter
from ripieno.store.cluster.objects import ObjectStore
from ripieno.wire.large_tasks import (
    LargeTasksReader,
    PayloadContinued,
    SubmissionFinished,
    TaskClosed,
    TaskOpened,
)
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2
from ripieno.wire.requests import optional_options

#: The most bytes of payloads of one stream that are kept in memory (and go to the database), where there is room for
#: four times as much; the other payloads go to the object store.
_INLINE_BYTES = 8 * 1024 * 1024

#: Room in memory is taken in steps of this size.
_STEP_BYTES = 256 * 1024

#: Seconds after the end of a stream within which gRPC cancels the call if its client has gone away.
_CANCELLATION_FOLLOWS_S = 0.02

Requests = AsyncIterator[submitter_service_pb2.CreateLargeTaskRequest]


class StreamedSubmission:
    """One streamed submission: reads the first message (``begin``), then the tasks (``tasks``).

    Use as ``async with``: the room that it holds in memory is given back at the end.

    Args:
        inline_limit_bytes: Payloads up to this size may lie in the database.
    """

    def __init__(
        self,
        requests: Requests,
        objects: ObjectStore,
        *,
        chunk_limit_bytes: int,
        inline_limit_bytes: int,
        limits: ControlLimits,
        arrivals: Arrivals,
    ) -> None:
        self._requests = requests
        self._objects = objects
        self._inline_limit = inline_limit_bytes
        self._limits = limits
        self._arrivals = arrivals
        self._most_inline = min(_INLINE_BYTES, arrivals.most_of_one_stream)
        self._reader = LargeTasksReader(chunk_limit_bytes)
        self._tasks = self._keys = 0
        self._named_bytes = self._inline_bytes = 0
        self._held_bytes = 0

    async def __aenter__(self) -> "StreamedSubmission":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._arrivals.give_back(self._held_bytes, large=True)

    @property
    def held_bytes(self) -> int:
        """Bytes of room held in memory for this stream, in whole steps."""
        return self._held_bytes

    async def begin(self) -> tuple[str, TaskOptions | None]:
        """Read the first message and return the session's id and the options.

        Raises:
            InvalidRequestError: if the message is missing, invalid, or of another kind.
        """
        request = await anext(self._requests, None)
        if request is None:
            self._reader.end()
            raise AssertionError("an empty stream is refused by the grammar")
        if request.WhichOneof("type") != "init_request":
            _read(self._reader, request)
            raise AssertionError("a stream without init_request is refused by the grammar")
        self._reader.init_request()
        check_identifier("init_request.session_id", request.init_request.session_id)
        options = optional_options(request.init_request, "init_request.task_options")
        return request.init_request.session_id, options

    async def tasks(self) -> AsyncIterator[NewTask]:
        """Yield the tasks of the stream; each payload is inline or in the object store when its task is yielded.

        Ends on ``last_task`` without waiting for the client's half-close.

        Raises:
            InvalidRequestError: if the stream breaks the grammar.
            LimitError: if the stream is beyond a limit.
            OverloadedError: if there was no room in memory in time.
        """
        payload = _Payload(self._objects, 0)
        opened: TaskOpened | None = None
        try:
            async for request in self._requests:
                if request.init_task.HasField("header"):  # limits are checked before names are looked at
                    await self._count(request.init_task.header)
                match _read(self._reader, request):
                    case TaskOpened() as opened:
                        spare = max(0, self._most_inline - self._inline_bytes)
                        payload = _Payload(self._objects, min(self._inline_limit, spare))
                    case PayloadContinued(data=data):
                        await payload.append(data)
                    case TaskClosed():
                        assert opened is not None, "the grammar closes only what is open"
                        whole = await payload.complete()
                        if isinstance(whole, bytes):
                            self._inline_bytes += len(whole)
                            await self._hold()
                        yield NewTask(opened.id, opened.expected_output_keys, opened.data_dependencies, whole)
                    case SubmissionFinished():
                        return
            # gRPC ends the stream of a client that has gone away like that of one that has
            # half-closed; the cancellation of this call follows within a moment. Waiting for that
            # moment makes sure that it was a half-close.
            await asyncio.sleep(_CANCELLATION_FOLLOWS_S)
            self._reader.end()
        finally:
            await payload.abandon()

    async def _count(self, header: objects_pb2.TaskRequestHeader) -> None:
        """Count one more task and its names, check the limits, and take room for the names."""
        self._tasks += 1
        self._limits.tasks_per_call.check(self._tasks)
        self._keys += len(header.expected_output_keys) + len(header.data_dependencies)
        self._limits.keys_per_call.check(self._keys)
        self._named_bytes += header.ByteSize()
        self._limits.bytes_per_call.check(self._named_bytes)
        await self._hold()

    async def _hold(self) -> None:
        while self._held_bytes < self._named_bytes + self._inline_bytes:
            await self._arrivals.hold(_STEP_BYTES, large=True)
            self._held_bytes += _STEP_BYTES


def _read(
    reader: LargeTasksReader, request: submitter_service_pb2.CreateLargeTaskRequest
) -> TaskOpened | PayloadContinued | TaskClosed | SubmissionFinished | None:
    match request.WhichOneof("type"):
        case "init_request":
            reader.init_request()
            return None
        case "init_task":
            return reader.init_task(request.init_task)
        case "task_payload":
            return reader.task_payload(request.task_payload)
        case _:
            raise InvalidRequestError("type", "is not set; send init_request, init_task or task_payload")


class _Payload:
    """One payload that arrives in chunks: kept in memory while small, else written to the object store as it arrives."""

    def __init__(self, objects: ObjectStore, inline_limit_bytes: int) -> None:
        self._objects = objects
        self._limit = inline_limit_bytes
        self._inline = bytearray()
        self._writer: ObjectWriter | None = None

    async def append(self, data: bytes) -> None:
        if self._writer is None:
            self._inline += data
            if len(self._inline) > self._limit:
                self._writer = await self._objects.writer()
                await self._writer.write(bytes(self._inline))
                self._inline.clear()
        else:
            await self._writer.write(data)

    async def complete(self) -> Data:
        if self._writer is None:
            return bytes(self._inline)
        writer, self._writer = self._writer, None
        await writer.__aexit__(None, None, None)
        return writer.stored

    async def abandon(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            error = InvalidRequestError("task_payload", "abandoned")
            await writer.__aexit__(type(error), error, None)
