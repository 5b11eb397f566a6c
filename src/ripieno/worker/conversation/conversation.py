"""``Conversation``: the worker's end of one attempt's conversation, without I/O (docs/protocol.md, section 4).

The agent's messages go in, one by one; the events that they amount to come out::

            init_request        payload.data_complete       init_data.last_data
     START -------------> PAYLOAD ---------------> BETWEEN ------------------> RUNNING
                          ^   | payload.data        |  ^                       ^    | create_task,
                          '---'       init_data.key |  | data.data_complete    '----' resource,
                                                    v  |                              common_data,
                                                   DATUM (data.data: stays)           direct_data

In RUNNING each message answers a question that this end asked before, by its request id;
answers to different questions may interleave. Anything else is a ProtocolViolation.

The same machine serves ``Worker.Process`` and the batch lane. ``receive`` belongs to the
thread that does the I/O; the questions are registered by the handler's thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2
from ripieno.worker.conversation.spool import Spool
from ripieno.worker.terms.errors import ProtocolViolation

_ComputeRequest = worker_service_pb2.ProcessRequest.ComputeRequest


class Stage(Enum):
    """How much of the task has arrived."""

    START = auto()
    PAYLOAD = auto()
    BETWEEN = auto()
    DATUM = auto()
    RUNNING = auto()


class Asked(Enum):
    """The kinds of questions to the agent, spelled as their messages are."""

    CREATE_TASK = "create_task"
    RESOURCE = "resource"
    COMMON_DATA = "common_data"
    DIRECT_DATA = "direct_data"


@dataclass(frozen=True, slots=True)
class TaskReady:
    """All that the task needs has arrived: the handler may begin."""


@dataclass(frozen=True, slots=True)
class SubTasksAnswered:
    """The agent's answer to a batch of sub-tasks: taken, or refused with the ids of the offenders."""

    request_id: str
    refused: bool = False
    refused_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataArrived:
    """A datum that was asked for has arrived, whole."""

    request_id: str
    spool: Spool


@dataclass(frozen=True, slots=True)
class DataRefused:
    """The agent refused a datum that was asked for, and said why."""

    request_id: str
    key: str
    reason: str


Event = TaskReady | SubTasksAnswered | DataArrived | DataRefused

_READY = TaskReady()
_PAYLOAD_COMPLETE = worker_service_pb2.ProcessRequest(
    compute=_ComputeRequest(payload=objects_pb2.DataChunk(data_complete=True))
)
_LAST_DATA = worker_service_pb2.ProcessRequest(
    compute=_ComputeRequest(init_data=_ComputeRequest.InitData(last_data=True))
)
_WHOLE_COUNT = 3
_EXPECTED = {
    Stage.START: "compute.init_request",
    Stage.PAYLOAD: "compute.payload",
    Stage.BETWEEN: "compute.init_data",
    Stage.DATUM: "compute.data",
    Stage.RUNNING: "an answer to a question of this worker",
}


class Conversation:
    """The state of one attempt's conversation, with all that the agent sent.

    Attributes:
        init: The first message, with everything small about the task.
        payload: The task's input, complete once the stage is RUNNING.
        data: The task's data dependencies by key, complete once the stage is RUNNING.
    """

    __slots__ = ("_arriving", "_datum", "_questions", "_spilled", "data", "init", "payload", "stage")

    def __init__(self) -> None:
        self.stage = Stage.START
        self.init: _ComputeRequest.InitRequest
        self.payload: Spool
        self.data: dict[str, Spool] = {}
        self._datum: Spool
        self._questions: dict[str, Asked] = {}
        self._arriving: dict[str, Spool] = {}
        self._spilled = False

    def receive_whole(self, requests: Sequence[worker_service_pb2.ProcessRequest]) -> bool:
        """Take in the commonest task at once: complete, with a payload of one chunk and no data.

        The effect is that of ``receive`` for each message, in a third of the time.

        Returns:
            True if the task was taken in; False, with nothing changed, if the messages have another shape.
        """
        if len(requests) != _WHOLE_COUNT or self.stage is not Stage.START:
            return False
        compute = requests[0].compute
        if not compute.HasField("init_request") or requests[1] != _PAYLOAD_COMPLETE or requests[2] != _LAST_DATA:
            return False
        self.init = compute.init_request
        self.payload = Spool(self.init.payload.data)
        self.stage = Stage.RUNNING
        return True

    def receive(self, request: worker_service_pb2.ProcessRequest) -> Event | None:
        """Take in the agent's next message and return the event that it completes, or None.

        Raises:
            ProtocolViolation: the message has no place here; the conversation is over.
            OSError: large data cannot be spooled.
        """
        kind = request.WhichOneof("type")
        if kind == "compute":
            return self._receive_task(request.compute)
        if self.stage is not Stage.RUNNING:
            raise self._misplaced(kind or "type not set")
        if kind == "create_task":
            return self._receive_answer(request.create_task)
        if kind == "resource":
            return self._receive_datum(Asked.RESOURCE, request.resource)
        if kind == "common_data":
            return self._receive_datum(Asked.COMMON_DATA, request.common_data)
        if kind == "direct_data":
            return self._receive_datum(Asked.DIRECT_DATA, request.direct_data)
        raise self._misplaced("type not set")

    def receive_file(self, path: str, size: int) -> None:
        """Take in a file in place of the chunks of the payload or datum that has begun.

        Raises:
            ProtocolViolation: neither has begun, or some of its bytes have arrived already.
            OSError: the file cannot be opened, or has another size.
        """
        if self.stage not in (Stage.PAYLOAD, Stage.DATUM):
            raise self._misplaced("a file")
        spool = self.payload if self.stage is Stage.PAYLOAD else self._datum
        if spool.size:
            raise self._misplaced("a file behind other data")
        self._spilled = True
        spool.adopt(path, size)

    def ask(self, request_id: str, asked: Asked) -> None:
        """Register a question that is about to be sent; answers that carry ``request_id`` belong to it."""
        self._questions[request_id] = asked

    @property
    def holds_files(self) -> bool:
        """Whether ``close`` has something to do, now or when an open question is answered."""
        return self._spilled or bool(self._questions)

    def close(self) -> None:
        """Close everything that was spooled. Only the thread that receives may call this."""
        if self.stage is Stage.START:
            return
        self.payload.close()
        if self.stage is Stage.DATUM:
            self._datum.close()
        for spool in (*self.data.values(), *self._arriving.values()):
            spool.close()

    def _receive_task(self, compute: _ComputeRequest) -> Event | None:
        """Take in one of the messages that carry the task itself."""
        kind = compute.WhichOneof("type")
        stage = self.stage
        if stage is Stage.PAYLOAD and kind == "payload":
            if self._append(self.payload, compute.payload):
                self.stage = Stage.BETWEEN
            return None
        if stage is Stage.BETWEEN and kind == "init_data":
            return self._receive_init_data(compute.init_data)
        if stage is Stage.START and kind == "init_request":
            self.init = compute.init_request
            # The chunk is kept as it came: for most tasks it is the whole payload.
            self.payload = Spool(self.init.payload.data)
            self.stage = Stage.PAYLOAD
            return None
        if stage is Stage.DATUM and kind == "data":
            if self._append(self._datum, compute.data):
                self.stage = Stage.BETWEEN
            return None
        raise self._misplaced(f"compute.{kind or 'type not set'}")

    def _receive_init_data(self, message: _ComputeRequest.InitData) -> TaskReady | None:
        kind = message.WhichOneof("type")
        if kind == "last_data":
            self.stage = Stage.RUNNING
            return _READY
        if kind == "key":
            # A key may come twice if the task names it twice; the bytes are the same.
            twice = self.data.get(message.key)
            if twice is not None:
                twice.close()
            self._datum = self.data[message.key] = Spool()
            self.stage = Stage.DATUM
            return None
        raise self._misplaced("compute.init_data with its type not set")

    def _receive_answer(self, message: worker_service_pb2.ProcessRequest.CreateTask) -> SubTasksAnswered:
        self._require_question(message.reply_id, Asked.CREATE_TASK)
        kind = message.reply.WhichOneof("Data")
        if kind is None:
            raise ProtocolViolation(f"create_task.reply to {message.reply_id!r} says neither success nor failure")
        del self._questions[message.reply_id]
        if kind == "successfull":
            return SubTasksAnswered(message.reply_id)
        return SubTasksAnswered(
            message.reply_id, refused=True, refused_ids=tuple(message.reply.non_successfull_ids.ids)
        )

    def _receive_datum(
        self, asked: Asked, message: worker_service_pb2.ProcessRequest.DataReply
    ) -> DataArrived | DataRefused | None:
        reply_id = message.reply_id
        self._require_question(reply_id, asked)
        kind = message.WhichOneof("type")
        spool = self._arriving.get(reply_id)
        if kind == "init" and spool is None:
            if message.init.WhichOneof("has_result") == "error":
                del self._questions[reply_id]
                return DataRefused(reply_id, message.init.key, message.init.error)
            self._arriving[reply_id] = Spool(message.init.data.data)
            return None
        if kind == "data" and spool is not None:
            if not self._append(spool, message.data):
                return None
            del self._questions[reply_id], self._arriving[reply_id]
            return DataArrived(reply_id, spool)
        story = "before its init" if spool is None else "after its init"
        raise ProtocolViolation(f"{asked.value}.{kind or 'type not set'} for {reply_id!r} arrived {story}")

    def _append(self, spool: Spool, chunk: objects_pb2.DataChunk) -> bool:
        """Add a chunk; return True if it says that there are no more."""
        kind = chunk.WhichOneof("type")
        if kind == "data_complete":
            return True
        if kind is None:
            raise self._misplaced("a data chunk with its type not set")
        spool.append(chunk.data)
        self._spilled = self._spilled or spool.spilled
        return False

    def _require_question(self, request_id: str, asked: Asked) -> None:
        if self._questions.get(request_id) is not asked:
            raise ProtocolViolation(f"{asked.value} answers {request_id!r}, which is no open question of that kind")

    def _misplaced(self, what: str) -> ProtocolViolation:
        return ProtocolViolation(f"{what} arrived where {_EXPECTED[self.stage]} was due")
