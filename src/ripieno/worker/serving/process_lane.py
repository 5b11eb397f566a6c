"""The service ``Worker``: one call of Process per attempt, as every agent of the protocol makes it."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio

from ripieno.domain.texts import reason
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2
from ripieno.worker.attempts.attempt import Attempt
from ripieno.worker.attempts.reply_outbox import Outbox
from ripieno.worker.conversation.conversation import Stage
from ripieno.worker.conversation.replies import ProcessReply, output_ok, result_begun, result_continued, result_ended
from ripieno.worker.process.borders import Borders
from ripieno.worker.running.inbox import Inbox
from ripieno.worker.terms.errors import ProtocolViolation

#: Most bytes of a status detail: it is sent percent-encoded in the trailers, which gRPC may refuse beyond 8 KiB.
DETAIL_LIMIT_BYTES = 7 * 1024

#: Bytes that are taken from the outbox at once; each reply is still a gRPC message of its own.
_TAKE_BYTES = 256 * 1024

#: Pause between looks at a handler that was told to stop: the agent asks about every second.
_LOOK_AGAIN_S = 0.02

_SERVICE = "ArmoniK.api.grpc.v1.Worker"
_Health = worker_service_pb2.HealthCheckReply.ServingStatus


class CallAttempt(Attempt):
    """An attempt that has a call of its own.

    Attributes:
        failure: Why the attempt failed, once it has ended without Output; else None.
        failure_code: The status that the call of a failed attempt ends with.
    """

    __slots__ = ("_borders", "failure", "failure_code")

    def __init__(self, outbox: Outbox, borders: Borders) -> None:
        super().__init__(outbox)
        self._borders = borders
        self.failure: str | None = None
        self.failure_code = grpc.StatusCode.INTERNAL

    def send(self, replies: Sequence[ProcessReply]) -> None:
        for reply in replies:
            self.outbox.put(reply.SerializeToString())

    def finish(self, replies: Sequence[ProcessReply], failure_value: bytes | None = None) -> None:
        self._borders.flush()  # the agent takes what is in the pipes when the call ends
        self.send(replies)
        self.end()
        self.outbox.finish()

    def finish_with_result(self, key: str, data: bytes) -> None:
        request_id = self.new_request_id()
        begun = [result_begun(request_id, key), result_continued(request_id, data)]
        self.finish([*begun, *result_ended(request_id), output_ok()])

    def fail(self, detail: str, failure_value: bytes | None = None) -> None:
        if not self.over:  # a withdrawn attempt fails in the thread of the I/O, and has printed nothing
            self._borders.flush()
        self.failure = detail
        self.end()
        self.outbox.finish()

    def break_off(self, detail: str) -> None:
        self.failure_code = grpc.StatusCode.INVALID_ARGUMENT
        super().break_off(detail)

    def refuse(self) -> None:
        """End the attempt as UNAVAILABLE, unless it has begun, because the worker is stopping."""
        if self.withdraw():
            self.failure_code = grpc.StatusCode.UNAVAILABLE
            self.fail("the worker is stopping and begins nothing any more")


class ProcessLane:
    """Serves ``Worker``. One call is heard at a time; others wait for their turn.

    Args:
        inbox: The queue for attempts that are ready to run.
        borders: Where the output of one attempt ends and that of the next begins.
        readers: The owner of the asyncio tasks that read calls. A read is never cancelled but
            ends with its call: gRPC writes into the memory of a read that is under way.
    """

    def __init__(self, inbox: Inbox, borders: Borders, readers: asyncio.TaskGroup) -> None:
        self._inbox = inbox
        self._borders = borders
        self._readers = readers
        self._turn = asyncio.Lock()
        self._current: CallAttempt | None = None
        #: The last attempt whose call was broken off while its handler ran.
        self._interrupted: CallAttempt | None = None
        self._draining = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service. Replies of Process are encoded already when they get to gRPC."""
        process: grpc.RpcMethodHandler[worker_service_pb2.ProcessRequest, bytes] = (
            grpc.stream_stream_rpc_method_handler(
                self.process,
                request_deserializer=worker_service_pb2.ProcessRequest.FromString,
                response_serializer=None,
            )
        )
        health: grpc.RpcMethodHandler[objects_pb2.Empty, worker_service_pb2.HealthCheckReply] = (
            grpc.unary_unary_rpc_method_handler(
                self.health_check,
                request_deserializer=objects_pb2.Empty.FromString,
                response_serializer=worker_service_pb2.HealthCheckReply.SerializeToString,
            )
        )
        methods = grpc.method_handlers_generic_handler(_SERVICE, {"Process": process, "HealthCheck": health})
        server.add_generic_rpc_handlers((methods,))

    def drain(self) -> None:
        """Begin no more attempts; one that has not begun ends as UNAVAILABLE."""
        self._draining = True
        if self._current is not None:
            self._current.refuse()

    async def health_check(self, _request: objects_pb2.Empty, _context: Any) -> worker_service_pb2.HealthCheckReply:
        """Answer SERVING, also while a handler runs, until the worker stops; then NOT_SERVING.

        While a handler goes on after its call was broken off there is no answer: gRPC has no
        other way to tell the agent that this worker is not free, and the agent replaces it.
        """
        while self._interrupted is not None and not self._interrupted.over:  # noqa: ASYNC110 - a thread ends it
            await asyncio.sleep(_LOOK_AGAIN_S)
        return worker_service_pb2.HealthCheckReply(status=_Health.NOT_SERVING if self._draining else _Health.SERVING)

    async def process(self, _requests: Any, context: Any) -> None:
        """Serve one attempt, whose call is read and written directly instead of by iterating and yielding."""
        async with self._turn:
            attempt = self._current = CallAttempt(Outbox(asyncio.get_running_loop()), self._borders)
            try:
                if self._draining:
                    attempt.refuse()
                else:
                    self._readers.create_task(self._read(attempt, context))
                while entries := await attempt.outbox.take(_TAKE_BYTES):
                    for entry in entries:
                        await context.write(entry)
            finally:
                # However the call ended: without it the attempt has nobody to talk to.
                self._current = None
                attempt.outbox.close()
                if not attempt.over and not attempt.withdraw():
                    self._interrupted = attempt
                    attempt.cancel()
        if attempt.failure is not None:
            await context.abort(attempt.failure_code, fit_detail(attempt.failure))

    async def _read(self, attempt: CallAttempt, context: Any) -> None:
        """Feed the attempt with its call's messages until the call ends."""
        reading = True
        while reading:
            try:
                request = await context.read()
            except Exception as error:  # noqa: BLE001 - bytes that are no message, say: it ends this call alone
                attempt.break_off(f"the stream cannot be read: {error}")
                return
            reading = request is not grpc.aio.EOF and not attempt.over
            if reading:
                reading = self._feed(attempt, request)
            elif attempt.conversation.stage is not Stage.RUNNING and not attempt.over:
                attempt.break_off("the stream ended before the task was complete")

    def _feed(self, attempt: CallAttempt, request: worker_service_pb2.ProcessRequest) -> bool:
        """Give the attempt its next message; return False if it breaks the protocol or its data cannot be kept."""
        try:
            if attempt.receive(request):
                self._inbox.put(attempt)
        except (ProtocolViolation, OSError) as error:
            attempt.break_off(str(error))
            return False
        return True


def fit_detail(detail: str) -> str:
    """Return a status detail, shortened until it fits the trailers of a call."""
    detail = reason(detail, DETAIL_LIMIT_BYTES)
    limit = len(detail.encode())
    while (size := len(quote(detail, safe=" "))) > DETAIL_LIMIT_BYTES:
        limit = min(limit * DETAIL_LIMIT_BYTES // size, limit - 1)
        detail = reason(detail, limit)
    return detail
