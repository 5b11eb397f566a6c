"""Submissions on their way to the store: small calls gathered, streamed ones read in bounded memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from ripieno.config import ControlSettings
from ripieno.control.batching import Batcher
from ripieno.control.dispatcher import Credit, Dispatcher
from ripieno.control.notices import Notices
from ripieno.domain.data import Data
from ripieno.domain.errors import InvalidRequestError, RipienoError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.options import TaskOptions
from ripieno.domain.submission import NewTask
from ripieno.objects import ObjectWriter
from ripieno.store.database import Database, NotPlainError
from ripieno.store.objects import ObjectStore
from ripieno.store.sessions import Sessions
from ripieno.store.submission import SubmissionCall, submit, submit_and_claim
from ripieno.wire.large_tasks import (
    LargeTasksReader,
    PayloadContinued,
    SubmissionFinished,
    TaskClosed,
    TaskOpened,
)
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2
from ripieno.wire.requests import optional_options

#: Tasks in one transaction.
_LARGEST_FLUSH = 2_000

_CANCELLATION_FOLLOWS_S = 0.02

#: Transactions under way at once: while one waits for the disk the next is written.
_FLUSHES = 2


class Submissions:
    """Brings submissions into the store."""

    def __init__(
        self,
        settings: ControlSettings,
        database: Database,
        sessions: Sessions,
        notices: Notices,
        dispatcher: Dispatcher,
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._database = database
        self._sessions = sessions
        self._notices = notices
        self._batcher: Batcher[SubmissionCall, RipienoError | None] = Batcher(
            self._flush, weigh=lambda call: len(call.tasks), largest=_LARGEST_FLUSH, flushes=_FLUSHES
        )

    async def run(self) -> None:
        """Write until cancelled."""
        await self._batcher.run()

    async def submit(self, session_id: str, options: TaskOptions | None, tasks: Sequence[NewTask]) -> None:
        """Create tasks, all or none; durable when it returns.

        Raises:
            NotFoundError: no such session.
            SessionCancelledError, AlreadyExistsError: nothing was created.
        """
        session = await self._sessions.find(session_id)
        known = await self._sessions.intern_options(session, options)
        fault = await self._batcher.put(SubmissionCall(session, known, tasks))
        if fault is not None:
            raise fault

    async def submit_stream(
        self,
        requests: AsyncIterator[submitter_service_pb2.CreateLargeTaskRequest],
        objects: ObjectStore,
    ) -> None:
        """Read one streamed submission and create its tasks.

        Returns on ``last_task`` without waiting for the client's half-close.

        Raises:
            InvalidRequestError: the stream breaks the grammar. Nothing was created.
        """
        reader = LargeTasksReader(self._settings.data_chunk_max_size)
        session_id, options = await self._init(reader, requests)
        # Fail before the payloads travel, not after.
        await self._sessions.find(session_id)
        tasks = [task async for task in _tasks(reader, requests, objects, self._settings.inline_limit_bytes)]
        await self.submit(session_id, options, tasks)

    async def _init(
        self, reader: LargeTasksReader, requests: AsyncIterator[submitter_service_pb2.CreateLargeTaskRequest]
    ) -> tuple[str, TaskOptions | None]:
        request = await anext(requests, None)
        if request is None:
            reader.end()
            raise AssertionError("an empty stream is refused by the grammar")
        if request.WhichOneof("type") != "init_request":
            _dispatch(reader, request)
            raise AssertionError("a stream without init_request is refused by the grammar")
        reader.init_request()
        check_identifier("init_request.session_id", request.init_request.session_id)
        options = optional_options(request.init_request, "init_request.task_options")
        return request.init_request.session_id, options

    async def _flush(self, calls: Sequence[SubmissionCall]) -> Sequence[RipienoError | None]:
        if (credit := self._credit_for(calls)) is not None:
            try:
                changes, claimed = await submit_and_claim(self._database, calls, credit.agents)
            except NotPlainError:
                self._dispatcher.give_back(credit)
            except BaseException:
                self._dispatcher.give_back(credit)
                raise
            else:
                self._notices.publish(changes)
                await self._dispatcher.hand_out(claimed, credit)
                return [None] * len(calls)
        faults, changes = await submit(self._database, calls)
        self._notices.publish(changes)
        for call, fault in zip(calls, faults, strict=True):
            if fault is None:
                options = call.options.options
                self._dispatcher.submitted(options.partition, options.priority)
        return faults

    def _credit_for(self, calls: Sequence[SubmissionCall]) -> Credit | None:
        """Credit for all of these tasks, if agents have so much and nobody is before them."""
        partition = calls[0].options.options.partition
        if not all(call.options.options.partition == partition and call.is_free and call.is_inline for call in calls):
            return None
        return self._dispatcher.take_for_new(partition, sum(len(call.tasks) for call in calls))


async def _tasks(
    reader: LargeTasksReader,
    requests: AsyncIterator[submitter_service_pb2.CreateLargeTaskRequest],
    objects: ObjectStore,
    inline_limit_bytes: int,
) -> AsyncIterator[NewTask]:
    """The tasks of the stream; each payload is inline or in the object store when it is yielded."""
    payload = _Payload(objects, inline_limit_bytes)
    opened: TaskOpened | None = None
    try:
        async for request in requests:
            match _dispatch(reader, request):
                case TaskOpened() as opened:
                    payload = _Payload(objects, inline_limit_bytes)
                case PayloadContinued(data=data):
                    await payload.append(data)
                case TaskClosed():
                    assert opened is not None, "the grammar closes only what is open"
                    yield NewTask(
                        opened.id, opened.expected_output_keys, opened.data_dependencies, await payload.complete()
                    )
                case SubmissionFinished():
                    return
        # gRPC ends the stream of a client that has gone away like that of one that has
        # half-closed; the cancellation of this call follows within a moment. To be sure
        # that it was a half-close, let that moment pass.
        await asyncio.sleep(_CANCELLATION_FOLLOWS_S)
        reader.end()
    finally:
        await payload.abandon()


def _dispatch(
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
    """One payload that arrives in chunks: kept inline while small, else written on as it comes."""

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
