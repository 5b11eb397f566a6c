"""The table of the project's errors and their gRPC codes, for servers and clients."""

from collections.abc import Mapping

import grpc

from ripieno.domain import errors

#: Trailing metadata of a RESOURCE_EXHAUSTED for a passing lack of room: the same call may be sent again a little later.
SEND_AGAIN = ("ripieno-send-again", "later")

#: Key of the trailing metadata of a RESOURCE_EXHAUSTED for a configured limit; the value is the limit's name.
LIMIT = "ripieno-limit"

#: Error class -> the code that says whose fault the error is. Of an error's class and its
#: ancestors, the most specific one in this table decides.
CODES: Mapping[type[errors.RipienoError], grpc.StatusCode] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.SubmissionStoppedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SessionCancelledError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SessionStepError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ConflictError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.DeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.OutcomeUnknownError: grpc.StatusCode.UNAVAILABLE,
    errors.InvariantError: grpc.StatusCode.INTERNAL,
    errors.RipienoError: grpc.StatusCode.INTERNAL,
}


def metadata_of(error: errors.RipienoError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that tell a caller's SDK what it can do about an error."""
    if isinstance(error, errors.LimitError):
        return ((LIMIT, error.limit),)
    return (SEND_AGAIN,) if isinstance(error, errors.OverloadedError) else ()


def code_of(error: errors.RipienoError) -> grpc.StatusCode:
    """Return the gRPC code that a caller gets for an error."""
    for ancestor in type(error).__mro__:
        if ancestor in CODES:
            return CODES[ancestor]
    return grpc.StatusCode.INTERNAL
