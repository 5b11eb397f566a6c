"""What a conversation asks its surroundings to do."""

from dataclasses import dataclass
from enum import Enum

from ripieno.domain.outcomes import Completed, Failed
from ripieno.wire.protos.armonik_v2 import worker_service_pb2

ProcessRequest = worker_service_pb2.ProcessRequest
_DataReply = ProcessRequest.DataReply


class DataKind(Enum):
    """Where a worker wants data from; the value is the field's name on the wire."""

    RESOURCE = "resource"  # the store, read each time
    COMMON = "common_data"  # fetched once per agent, kept for the session
    DIRECT = "direct_data"  # this agent's own cache and nothing else


@dataclass(frozen=True, slots=True)
class Answer:
    """Send this to the worker."""

    request: ProcessRequest


@dataclass(frozen=True, slots=True)
class DataRequested:
    """Look a result up and send it; tell the conversation by ``data_answered``."""

    kind: DataKind
    request_id: str
    key: str


@dataclass(frozen=True, slots=True)
class UploadStarted:
    """Open an object to write. ``upload`` numbers it within the attempt."""

    upload: int


@dataclass(frozen=True, slots=True)
class UploadContinued:
    """Write to it. Read no further from the worker while it is behind."""

    upload: int
    data: bytes


@dataclass(frozen=True, slots=True)
class UploadFinished:
    """It is complete; tell the conversation its name by ``stored``."""

    upload: int


@dataclass(frozen=True, slots=True)
class OutputReceived:
    """The worker is done; ``Completed`` follows once the last upload is stored."""


#: Completed and Failed end the conversation: nothing is sent after them.
Effect = Answer | DataRequested | UploadStarted | UploadContinued | UploadFinished | OutputReceived | Completed | Failed


def data_error(kind: DataKind, request_id: str, key: str, detail: str) -> ProcessRequest:
    """The answer to a data request that cannot be served."""
    return data_reply(kind, _DataReply(reply_id=request_id, init=_DataReply.Init(key=key, error=detail)))


def data_reply(kind: DataKind, reply: _DataReply) -> ProcessRequest:
    """A part of the answer to a data request."""
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
