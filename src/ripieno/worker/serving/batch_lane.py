"""The service ``BatchWorker``: many attempts to a gRPC message, over one long-lived stream.

The stream goes on being read while a handler runs, so that withdrawals and cancels get
through. The handler's answers gather while the last batch is written and go out with
the next batch, at once when no write is under way.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grpc
import grpc.aio

from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.domain.progress import Progress
from ripieno.domain.texts import reason
from ripieno.objects import is_readable
from ripieno.wire.outcomes import directory_from_wire, output_to_wire, stored_to_wire
from ripieno.wire.progress import progress_to_wire
from ripieno.wire.protos.armonik_v2 import worker_service_pb2
from ripieno.wire.protos.v1 import batch_worker_pb2
from ripieno.worker.attempts.attempt import Attempt
from ripieno.worker.attempts.object_place import ObjectPlace
from ripieno.worker.attempts.reply_outbox import Outbox
from ripieno.worker.conversation.conversation import Stage
from ripieno.worker.conversation.replies import OneResult, ProcessReply
from ripieno.worker.process.borders import Borders
from ripieno.worker.running.inbox import Inbox
from ripieno.worker.terms.errors import ProtocolViolation

BATCH_LIMIT_BYTES = 1024 * 1024

BatchReply = batch_worker_pb2.BatchReply
_SERVICE = "ripieno.v1.BatchWorker"


class _Stream:
    """One call of BatchWorker.Process.

    Attributes:
        open: Attempts that arrived and have not ended, by number.
        outbox: Encoded BatchReply messages, which may be joined.
        borders: Where the output of one attempt ends and that of the next begins.
        objects: The place where large results may be written; None unless the agent offered one.
        read_to_end: Whether the stream may end once no attempt is open: the agent sends nothing
            more, or the worker is stopping.
        failure: Why the stream cannot go on; None if it can.
    """

    def __init__(self, outbox: Outbox, one_result: OneResult, borders: Borders) -> None:
        self.open: dict[int, BatchAttempt] = {}
        self.outbox = outbox
        self.one_result = one_result
        self.borders = borders
        self.objects: ObjectPlace | None = None
        self.read_to_end = False
        self.failure: str | None = None

    def end(self, attempt: "BatchAttempt", last: bytes) -> None:
        """Forget an attempt that has ended, and send its last message (any thread)."""
        self.open.pop(attempt.number, None)
        self.outbox.put(last)
        if self.read_to_end:
            self.finish_when_idle()

    def want_object(self) -> None:
        """Ask the agent for the name of an object (any thread)."""
        self.outbox.put(BatchReply(wants_object=True).SerializeToString())

    def finish_when_idle(self) -> None:
        """Let the stream end if no attempt is open, so that nothing is left to be sent."""
        if not self.open:
            self.outbox.finish()


class BatchAttempt(Attempt):
    """An attempt that shares its stream with others; ``number`` is its tag there."""

    __slots__ = ("_stream", "number", "place")

    def __init__(self, stream: _Stream, number: int, place: int) -> None:
        super().__init__(stream.outbox)
        self._stream = stream
        self.number = number
        self.place = place

    def begin(self) -> bool:
        if not super().begin():
            return False
        self._stream.borders.begin()
        return True

    def send(self, replies: Sequence[ProcessReply]) -> None:
        self.outbox.put(_encode(BatchReply.Item(attempt=self.number, replies=replies)))

    def finish(self, replies: Sequence[ProcessReply], failure_value: bytes | None = None) -> None:
        self._finish(_encode(BatchReply.Item(attempt=self.number, replies=replies, failure_value=failure_value)))

    def finish_with_result(self, key: str, data: bytes) -> None:
        self._finish(self._stream.one_result.encode(self.number, key, data))

    def fail(self, detail: str, failure_value: bytes | None = None) -> None:
        self._finish(_encode(BatchReply.Item(attempt=self.number, failed=detail, failure_value=failure_value)))

    @property
    def objects(self) -> ObjectPlace | None:
        return self._stream.objects

    def send_stored(self, key: str, stored: StoredObject) -> None:
        told = BatchReply.Stored(key=key, object=stored_to_wire(stored))
        self.outbox.put(_encode(BatchReply.Item(attempt=self.number, stored=[told])))

    def send_progress(self, progress: Progress) -> None:
        self.outbox.put(_encode(BatchReply.Item(attempt=self.number, progress=progress_to_wire(progress))))

    def tell_withdrawn(self, why: str | None = None) -> None:
        """Tell the agent that the attempt never began and never will; ``why`` is None if the agent asked it back."""
        self._finish(_encode(BatchReply.Item(attempt=self.number, withdrawn=True, failed=why)))

    def _finish(self, last: bytes) -> None:
        # A withdrawn attempt is over, and ends in the thread of the I/O: it has printed nothing.
        if not self.over and (output := self._stream.borders.end()) is not None:
            printed = batch_worker_pb2.BatchReply.Printed(output=output_to_wire(output))
            printed.stdout_at, printed.stderr_at = self._stream.borders.at
            last = _encode(BatchReply.Item(attempt=self.number, printed=printed)) + last
        self.end()
        self._stream.end(self, last)


class BatchLane:
    """Serves ``BatchWorker``.

    A second stream is served beside the first: an agent that lost its connection may be
    back before the loss is noticed here. One attempt runs at a time in each place all the same.

    Args:
        inbox: The queue for attempts that are ready to run.
        places: How many attempts run at a time, each in a place of its own.
        borders: Where the output of one attempt ends and that of the next begins.
        readers: The owner of the asyncio tasks that read streams (see ProcessLane).
    """

    def __init__(self, inbox: Inbox, borders: Borders, readers: asyncio.TaskGroup, places: int = 1) -> None:
        self._inbox = inbox
        self._places = places
        self._borders = borders
        self._readers = readers
        self._streams: set[_Stream] = set()
        self._one_result = OneResult()
        self._draining = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service. Replies are encoded already when they get to gRPC."""
        method: grpc.RpcMethodHandler[batch_worker_pb2.BatchRequest, bytes] = grpc.stream_stream_rpc_method_handler(
            self.process, request_deserializer=batch_worker_pb2.BatchRequest.FromString, response_serializer=None
        )
        methods = grpc.method_handlers_generic_handler(_SERVICE, {"Process": method})
        server.add_generic_rpc_handlers((methods,))

    def drain(self) -> None:
        """Begin no more attempts; those that have not begun go back to their agent as withdrawn."""
        self._draining = True
        for stream in self._streams:
            for attempt in list(stream.open.values()):
                if attempt.withdraw():
                    attempt.tell_withdrawn()
            stream.read_to_end = True
            stream.finish_when_idle()

    async def process(self, _requests: Any, context: Any) -> None:
        """Serve one stream, which is read and written directly instead of by iterating and yielding."""
        stream = _Stream(Outbox(asyncio.get_running_loop()), self._one_result, self._borders)
        self._streams.add(stream)
        try:
            self._readers.create_task(self._read(stream, context))
            while entries := await stream.outbox.take(BATCH_LIMIT_BYTES):
                await context.write(entries[0] if len(entries) == 1 else b"".join(entries))
        finally:
            # However the stream ended: without it the attempts have nobody to talk to.
            self._streams.discard(stream)
            stream.outbox.close()
            for attempt in list(stream.open.values()):
                if not attempt.withdraw():
                    attempt.cancel()
        if stream.failure is not None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, stream.failure)

    async def _read(self, stream: _Stream, context: Any) -> None:
        """Take in the stream's messages until it ends."""
        while True:
            try:
                batch = await context.read()
            except Exception as error:  # noqa: BLE001 - bytes that are no message, say: it ends this stream alone
                stream.failure = f"the stream cannot be read: {error}"
                stream.outbox.finish()
                return
            if batch is grpc.aio.EOF or stream.outbox.closed:
                break
            if batch.knows_places:
                stream.outbox.put(BatchReply(places=self._places).SerializeToString())
            if batch.HasField("objects"):
                directory = directory_from_wire(batch.objects.directory)
                if directory is not None:
                    stream.objects = ObjectPlace(directory, batch.objects.larger_than_bytes, stream.want_object)
            if stream.objects is not None and (batch.object_names or batch.no_object):
                stream.objects.named(batch.object_names)
            if batch.HasField("scratch") and (scratch := directory_from_wire(batch.scratch)) is not None:
                # The check looks at a file system, so it runs in a thread. Nobody waits for the answer.
                self._readers.create_task(self._look_at_scratch(stream, scratch))
            for item in batch.items:
                self._take(stream, item)
        if stream.objects is not None:
            stream.objects.close()
        for attempt in list(stream.open.values()):
            if attempt.conversation.stage is not Stage.RUNNING:
                attempt.break_off("the stream ended before the task was complete")
        stream.read_to_end = True
        stream.finish_when_idle()

    async def _look_at_scratch(self, stream: _Stream, scratch: ObjectDirectory) -> None:
        try:
            readable = await asyncio.to_thread(is_readable, scratch)
        except RuntimeError:
            return  # no thread can be started: large data is sent then
        if readable:
            stream.outbox.put(BatchReply(reads_scratch=True).SerializeToString())

    def _take(self, stream: _Stream, item: batch_worker_pb2.BatchRequest.Item) -> None:
        attempt = stream.open.get(item.attempt)
        if attempt is None:
            attempt = self._admit(stream, item)
            if attempt is None:
                return
        else:
            for request in item.requests:
                if not self._feed(attempt, request):
                    return
        if item.HasField("file") and not self._feed_file(attempt, item.file):
            return
        if item.cancel or item.withdraw:
            if attempt.withdraw():
                attempt.tell_withdrawn()
            elif item.cancel:
                attempt.cancel()

    def _admit(self, stream: _Stream, item: batch_worker_pb2.BatchRequest.Item) -> BatchAttempt | None:
        """Open an attempt with its first item and return it; None if no more of it is to be taken in."""
        requests = item.requests
        attempt = BatchAttempt(stream, item.attempt, item.place)
        whole = attempt.conversation.receive_whole(requests)
        if not whole and not (requests and requests[0].compute.HasField("init_request")):
            return None  # the item is about an attempt that has ended: its end and this message crossed
        stream.open[attempt.number] = attempt
        if self._draining and attempt.withdraw():
            attempt.tell_withdrawn()
            return None
        if whole:
            self._inbox.put(attempt)
            return attempt
        return attempt if all(self._feed(attempt, request) for request in requests) else None

    def _feed_file(self, attempt: BatchAttempt, file: batch_worker_pb2.BatchRequest.File) -> bool:
        """Give an attempt a file; return False if it breaks the protocol or cannot be read."""
        return self._taken_in(attempt, partial(attempt.conversation.receive_file, file.path, file.size))

    def _feed(self, attempt: BatchAttempt, request: worker_service_pb2.ProcessRequest) -> bool:
        """Give an attempt its next message; return False if it breaks the protocol or its data cannot be kept."""
        return self._taken_in(attempt, partial(attempt.receive, request))

    def _taken_in(self, attempt: BatchAttempt, receive: Callable[[], bool | None]) -> bool:
        """Let an attempt receive something, and queue it if that was the last of its task."""
        try:
            if receive():
                self._inbox.put(attempt)
        except ProtocolViolation as error:
            attempt.break_off(str(error))
            return False
        except OSError as error:
            self._cannot_hold(attempt, error)
            return False
        return True

    @staticmethod
    def _cannot_hold(attempt: BatchAttempt, error: OSError) -> None:
        """Give back an attempt whose data this machine cannot keep or read, through no fault of its own.

        An attempt that has begun is broken off instead.
        """
        if attempt.withdraw():
            attempt.tell_withdrawn(f"its worker cannot hold its data: {reason(str(error))}")
        else:
            attempt.break_off(f"data for it cannot be held: {error}")


def _encode(item: batch_worker_pb2.BatchReply.Item) -> bytes:
    return BatchReply(items=[item]).SerializeToString()
