"""Effects: what a conversation asks its lane and ``Exchange`` to do."""

from dataclasses import dataclass
from enum import Enum

from ripieno.domain.outcomes import Completed, Failed
from ripieno.wire.protos.armonik_v2 import worker_service_pb2

ProcessRequest = worker_service_pb2.ProcessRequest
_DataReply = ProcessRequest.DataReply


class DataKind(Enum):
    """The source of data that a worker asks for. The value is the name of the field on the wire."""

    RESOURCE = "resource"  # read from the store each time
    COMMON = "common_data"  # fetched once per agent, kept for the session
    DIRECT = "direct_data"  # read from this agent's own cache and nowhere else


@dataclass(frozen=True, slots=True)
class Answer:
    """Send ``request`` to the worker."""

    request: ProcessRequest


@dataclass(frozen=True, slots=True)
class DataRequested:
    """Look up a result and send it to the worker. Call ``Conversation.data_answered`` before the last message."""

    kind: DataKind
    request_id: str
    key: str


@dataclass(frozen=True, slots=True)
class UploadStarted:
    """Begin to write an object. ``upload`` is its number within the attempt."""

    upload: int


@dataclass(frozen=True, slots=True)
class UploadContinued:
    """Write ``data`` to an upload. Read no further from the worker while the upload is behind."""

    upload: int
    data: bytes


@dataclass(frozen=True, slots=True)
class UploadFinished:
    """Complete an upload, then call ``Conversation.stored`` with the object's name."""

    upload: int


@dataclass(frozen=True, slots=True)
class OutputReceived:
    """The worker sent Output ok. ``Completed`` follows once the last upload is stored."""


#: Everything a conversation may ask for. Completed and Failed end it: nothing is sent to the worker after them.
Effect = Answer | DataRequested | UploadStarted | UploadContinued | UploadFinished | OutputReceived | Completed | Failed


def data_error(kind: DataKind, request_id: str, key: str, detail: str) -> ProcessRequest:
    """Build the answer to a data request that cannot be served."""
    return data_reply(kind, _DataReply(reply_id=request_id, init=_DataReply.Init(key=key, error=detail)))


def data_reply(kind: DataKind, reply: _DataReply) -> ProcessRequest:
    """Wrap a part of the answer to a data request in the field of its kind."""
    if kind is DataKind.RESOURCE:
        return ProcessRequest(resource=reply)
    if kind is DataKind.COMMON:
        return ProcessRequest(common_data=reply)
    return ProcessRequest(direct_data=reply)


__all__ = [
    "Answer",
    "Completed",
    "DataKind",
    "DataRequested",
    "Effect",
    "Failed",
    "OutputReceived",
    "UploadContinued",
    "UploadFinished",
    "UploadStarted",
    "data_error",
    "data_reply",
]
