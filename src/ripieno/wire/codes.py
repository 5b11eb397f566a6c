"""Errors and gRPC codes: one table, both ways."""

from collections.abc import Mapping

import grpc

from ripieno.domain import errors

#: Trailing metadata of a RESOURCE_EXHAUSTED that passes by itself: the same call may be sent again a little later.
SEND_AGAIN = ("ripieno-send-again", "later")

#: Key of the trailing metadata of a RESOURCE_EXHAUSTED that does not: the limit's name.
LIMIT = "ripieno-limit"

#: Each error class to the code that says whose fault it is. The most specific class
#: of an error's ancestry that stands here decides.
CODES: Mapping[type[errors.RipienoError], grpc.StatusCode] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.SessionCancelledError: grpc.StatusCode.FAILED_PRECONDITION,
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
    """Trailing metadata that tell a caller's SDK what it can do about an error."""
    if isinstance(error, errors.LimitError):
        return ((LIMIT, error.limit),)
    return (SEND_AGAIN,) if isinstance(error, errors.OverloadedError) else ()


def code_of(error: errors.RipienoError) -> grpc.StatusCode:
    """The gRPC code that a caller gets for an error."""
    for ancestor in type(error).__mro__:
        if ancestor in CODES:
            return CODES[ancestor]
    return grpc.StatusCode.INTERNAL
