"""The errors that a client may raise: the families of ``ripieno.domain.errors``, and TaskFailedError.

::

    RipienoError
     ├─ TaskFailedError          a result will never exist: the task that owes it failed
     │   └─ TaskCancelledError       ... or was cancelled
     ├─ InvalidRequestError      the request breaks a rule
     ├─ NotFoundError            no such session, task or result
     ├─ ConflictError            AlreadyExistsError, SessionCancelledError, SessionStepError
     ├─ DeniedError              UnauthenticatedError, PermissionDeniedError
     ├─ OverloadedError          the server has no room, for as long as the client's patience lasts
     │   └─ LimitError               a configured limit is reached
     ├─ UnavailableError         no server answered, for as long as the client's patience lasts
     ├─ OutcomeUnknownError      the connection broke and the call cannot be repeated
     └─ InvariantError           a bug of the server

A time limit that passes is Python's own ``TimeoutError``. No error of gRPC reaches a
caller: it is the ``__cause__`` of one of these.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import grpc
import grpc.aio

from ripieno.domain.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    InvariantError,
    LimitError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RipienoError,
    SessionCancelledError,
    UnauthenticatedError,
    UnavailableError,
)
from ripieno.domain.outcomes import AttemptError
from ripieno.domain.statuses import TaskStatus
from ripieno.wire.codes import LIMIT, SEND_AGAIN
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.statuses import TASK_FROM_WIRE
from ripieno.wire.unreachable import cause_in_words


class TaskFailedError(RipienoError):
    """A result was aborted: it will never exist.

    Attributes:
        key: The result's key.
        task_id: The task that owed it in the end (the last one it was delegated to).
        attempts: That task's failed attempts, oldest first, each with its status and
            reason.
    """

    def __init__(self, key: str, task_id: str, attempts: Sequence[AttemptError]) -> None:
        super().__init__(_story(key, task_id, attempts))
        self.key = key
        self.task_id = task_id
        self.attempts = tuple(attempts)


class TaskCancelledError(TaskFailedError):
    """A result was aborted because the task that owed it was cancelled."""


def _story(key: str, task_id: str, attempts: Sequence[AttemptError]) -> str:
    head = f"result {key!r} will never exist: task {task_id!r} "
    if not attempts:
        return f"{head}did not make it"
    last = attempts[-1]
    if last.status is TaskStatus.CANCELLED:
        return f"{head}was cancelled: {last.detail}"
    tries = f"{len(attempts)} attempts, the last one " if len(attempts) > 1 else ""
    return f"{head}ended after {tries}{last.status.name}: {last.detail}"


def task_failure(key: str, error: objects_pb2.TaskError) -> TaskFailedError:
    """Return the error for an aborted result, made from the server's report on the task that owed it."""
    attempts = [
        AttemptError(TASK_FROM_WIRE.get(entry.task_status, TaskStatus.ERROR), entry.detail) for entry in error.errors
    ]
    cancelled = bool(attempts) and attempts[-1].status is TaskStatus.CANCELLED
    return (TaskCancelledError if cancelled else TaskFailedError)(key, error.task_id, attempts)


def _invalid(detail: str) -> RipienoError:
    return InvalidRequestError("", detail)


def _unavailable(detail: str) -> RipienoError:
    return UnavailableError(cause_in_words(detail))


def _unknown_call(detail: str) -> RipienoError:
    return RipienoError(
        f"what listens there does not know this call ({cause_in_words(detail)}): it is no ripieno cluster, or an older one"
    )


def already_exists(detail: str) -> RipienoError:
    """Return an AlreadyExistsError in the server's own words."""
    return _in_the_servers_words(AlreadyExistsError("", []), detail)


def _session_cancelled(detail: str) -> RipienoError:
    return _in_the_servers_words(SessionCancelledError(""), detail)


def _in_the_servers_words(error: RipienoError, detail: str) -> RipienoError:
    error.args = (detail,)
    error.detail = detail
    return error


#: Errors by gRPC code: ``wire.codes`` read backwards. A code that is not listed becomes a plain RipienoError.
FROM_CODE: Mapping[grpc.StatusCode, Callable[[str], RipienoError]] = MappingProxyType(
    {
        grpc.StatusCode.INVALID_ARGUMENT: _invalid,
        grpc.StatusCode.NOT_FOUND: NotFoundError,
        grpc.StatusCode.ALREADY_EXISTS: already_exists,
        grpc.StatusCode.FAILED_PRECONDITION: _session_cancelled,
        grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: LimitError,
        grpc.StatusCode.UNAVAILABLE: _unavailable,
        # Our own cancellations end as asyncio.CancelledError and our time limits as
        # TimeoutError, so these two come from a server or a proxy that gave the call up.
        grpc.StatusCode.CANCELLED: UnavailableError,
        grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
        grpc.StatusCode.INTERNAL: InvariantError,
        grpc.StatusCode.UNIMPLEMENTED: _unknown_call,
    }
)


#: gRPC's details of the failure of a write on a stream that is over already. The stream's own
#: status may be lost then. No server ever sends these details; to ask again brings the true status.
_LOCAL_FAILURE = "Internal error from Core"


def from_rpc(error: grpc.aio.AioRpcError) -> RipienoError:
    """Return the RipienoError that stands for a failed gRPC call."""
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _LOCAL_FAILURE:
        return UnavailableError("the stream broke while it was written to")
    detail = error.details() or ""
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        said = dict(error.trailing_metadata() or ())
        return OverloadedError(detail) if SEND_AGAIN[0] in said else LimitError(detail, str(said.get(LIMIT, "")))
    make = FROM_CODE.get(error.code())
    return make(detail) if make else RipienoError(f"the server answered {error.code().name}: {detail}")
