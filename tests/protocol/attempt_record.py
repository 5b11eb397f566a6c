"""What a bare worker saw and said during one attempt, and the order that part 3 demands of it."""

import re
from dataclasses import dataclass, field

from google.protobuf.message import Message

from protocol.messages import CHUNK
from protocol.stubs.worker_service_pb2 import ProcessReply, ProcessRequest

#: Messages are kept for later questions up to this many bytes an attempt; their kinds always are.
KEPT_BYTES = 1 << 20

#: Part 3, "the agent sends back-to-back", one letter a kind.
_LETTERS = {
    "compute.init_request": "I",
    "compute.payload.data": "p",
    "compute.payload.data_complete": "P",
    "compute.init_data.key": "K",
    "compute.data.data": "d",
    "compute.data.data_complete": "D",
    "compute.init_data.last_data": "L",
}
_ORDER = re.compile(r"Ip*P(Kd+D)*L")


def kind_of(message: Message) -> str:
    """The path of set oneofs, such as ``compute.payload.data``; ends with ``?`` where one is empty."""
    path = []
    part: object = message
    while isinstance(part, Message) and "type" in part.DESCRIPTOR.oneofs_by_name:
        name = part.WhichOneof("type")
        path.append(name or "?")
        part = getattr(part, name) if name else None
    return ".".join(path)


class ProtocolBreachError(AssertionError):
    """The agent broke a rule of part 3."""


@dataclass
class Attempt:
    """One ``Process`` call as the worker lived it.

    Attributes:
        worker: Which of the bare workers ran it.
        task_id: As sent: the task's id, or ``<id>###<n>`` on retry n.
        began_at: Monotonic clock, when the first message was read; ended_at likewise, None while it runs.
        log: ``< kind`` for each message that came, ``> kind`` for each that went, ``< half-close``.
        received: The messages that came, up to a bound.
        cancelled: The agent cancelled the call.
        strict: A message after Output is a breach; not so for a worker that leaves answers unread.
        said_output: The worker has sent Output.
    """

    worker: str
    session_id: str
    task_id: str
    began_at: float
    ended_at: float | None = None
    log: list[str] = field(default_factory=list)
    received: list[ProcessRequest] = field(default_factory=list)
    cancelled: bool = False
    strict: bool = True
    said_output: bool = False
    _kept: int = 0

    def came(self, message: ProcessRequest) -> None:
        """Note a message from the agent."""
        if self.strict and self.said_output:
            raise ProtocolBreachError(f"{self.task_id}: the agent sent {kind_of(message)} after Output")
        self.log.append(f"< {kind_of(message)}")
        self._kept += message.ByteSize()
        if self._kept <= KEPT_BYTES:
            self.received.append(message)

    def went(self, message: ProcessReply) -> None:
        """Note a message to the agent."""
        self.log.append(f"> {kind_of(message)}")
        self.said_output |= message.WhichOneof("type") == "output"

    def half_closed_by_agent(self) -> None:
        """Note the agent's half-close."""
        self.log.append("< half-close")

    @property
    def half_closed(self) -> bool:
        return "< half-close" in self.log

    @property
    def running(self) -> bool:
        return self.ended_at is None


@dataclass
class GivenTask:
    """A task as a worker got it."""

    session_id: str
    task_id: str
    options: dict[str, str]
    expected_output_keys: list[str]
    chunk_limit: int
    payload: bytes
    data: dict[str, bytes]


def assemble(received: list[ProcessRequest]) -> GivenTask:
    """Build the task out of the messages that describe it.

    Raises:
        ProtocolBreachError: their order, or a chunk's size, is not what part 3 says.
    """
    init = received[0].compute.init_request
    kinds = "".join(_LETTERS.get(kind_of(message), "?") for message in received)
    if not _ORDER.fullmatch(kinds):
        raise ProtocolBreachError(f"{init.task_id}: the order is {[kind_of(message) for message in received]}")
    if init.payload.WhichOneof("type") != "data":
        raise ProtocolBreachError(f"{init.task_id}: init_request carries no first chunk of the payload")
    limit = init.configuration.data_chunk_max_size
    payload, data, key = [init.payload.data], dict[str, list[bytes]](), ""
    for message in received[1:]:
        compute = message.compute
        if compute.WhichOneof("type") == "payload":
            payload.append(compute.payload.data)
        elif compute.WhichOneof("type") == "init_data" and compute.init_data.WhichOneof("type") == "key":
            key = compute.init_data.key
            if key in data:
                raise ProtocolBreachError(f"{init.task_id}: dependency {key!r} came twice")
            data[key] = []
        elif compute.WhichOneof("type") == "data":
            data[key].append(compute.data.data)
    if max(map(len, [*payload, *(piece for pieces in data.values() for piece in pieces)])) > limit:
        raise ProtocolBreachError(f"{init.task_id}: a chunk is longer than data_chunk_max_size")
    if limit != CHUNK:
        raise ProtocolBreachError(f"{init.task_id}: configuration.data_chunk_max_size is {limit}")
    return GivenTask(
        session_id=init.session_id,
        task_id=init.task_id,
        options=dict(init.task_options),
        expected_output_keys=list(init.expected_output_keys),
        chunk_limit=limit,
        payload=b"".join(payload),
        data={name: b"".join(pieces) for name, pieces in data.items()},
    )
