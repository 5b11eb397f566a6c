"""The messages that a worker sends: the ProcessReply messages of one attempt."""

from ripieno.wire.arenas import ARENA_BYTES
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2
from ripieno.wire.protos.v1 import batch_worker_pb2
from ripieno.worker.conversation.conversation import Asked

ProcessReply = worker_service_pb2.ProcessReply


def result_begun(request_id: str, key: str) -> ProcessReply:
    """Return the first message of a result."""
    init = objects_pb2.InitKeyedDataStream(key=key)
    return ProcessReply(request_id=request_id, result=ProcessReply.Result(init=init))


def result_continued(request_id: str, chunk: bytes) -> ProcessReply:
    """Return the message with one chunk of a result."""
    return ProcessReply(request_id=request_id, result=ProcessReply.Result(data=objects_pb2.DataChunk(data=chunk)))


def result_ended(request_id: str) -> list[ProcessReply]:
    """Return the last two messages of a result."""
    complete = ProcessReply.Result(data=objects_pb2.DataChunk(data_complete=True))
    last = ProcessReply.Result(init=objects_pb2.InitKeyedDataStream(last_result=True))
    return [ProcessReply(request_id=request_id, result=complete), ProcessReply(request_id=request_id, result=last)]


def output_ok() -> ProcessReply:
    """Return the attempt's last message when all went well."""
    return ProcessReply(output=objects_pb2.Output(ok=objects_pb2.Empty()))


def output_error(details: str) -> ProcessReply:
    """Return the attempt's last message when the task failed for good."""
    return ProcessReply(output=objects_pb2.Output(error=objects_pb2.Output.Error(details=details)))


def data_wanted(request_id: str, asked: Asked, key: str) -> ProcessReply:
    """Return the question for the bytes of a result."""
    request = ProcessReply.DataRequest(key=key)
    if asked is Asked.RESOURCE:
        return ProcessReply(request_id=request_id, resource=request)
    if asked is Asked.COMMON_DATA:
        return ProcessReply(request_id=request_id, common_data=request)
    return ProcessReply(request_id=request_id, direct_data=request)


class OneResult:
    """Encodes the whole answer of the commonest attempt: one result in one chunk, then ok.

    The message is built once and then only filled in, which takes a tenth of the time
    of building it; its memory is bounded by ``ARENA_BYTES`` and one answer. Its bytes are a
    BatchReply with one item; such bytes may be joined, since repeated fields of concatenated
    messages add up. Only the thread that runs handlers may use it.
    """

    #: Request id of the only request, so that any id will do.
    REQUEST_ID = "1"

    def __init__(self) -> None:
        self._build()

    def encode(self, attempt: int, key: str, data: bytes) -> bytes:
        """Return the encoded answer of one attempt, whose only result is ``data``."""
        if self._taken_bytes > ARENA_BYTES:
            self._build()
        self._item.attempt = attempt
        self._init.key = key
        self._chunk.data = data
        encoded = self._batch.SerializeToString()
        self._taken_bytes += len(encoded)
        return encoded

    def _build(self) -> None:
        """Begin a new message and drop the former one whole."""
        replies = [
            result_begun(self.REQUEST_ID, ""),
            result_continued(self.REQUEST_ID, b""),
            *result_ended(self.REQUEST_ID),
            output_ok(),
        ]
        self._batch = batch_worker_pb2.BatchReply(items=[batch_worker_pb2.BatchReply.Item(replies=replies)])
        self._item = self._batch.items[0]
        self._init = self._item.replies[0].result.init
        self._chunk = self._item.replies[1].result.data
        #: Bytes that the present message has taken in.
        self._taken_bytes = 0
