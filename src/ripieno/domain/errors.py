"""The errors that this project raises on purpose, by whose fault they are.

::

    RipienoError
     ├─ InvalidRequestError      the request breaks a rule; sending it again will not help
     ├─ NotFoundError            no such session, task or result
     ├─ ConflictError            at odds with what exists already
     │   ├─ AlreadyExistsError       an id or a key is taken
     │   ├─ SubmissionStoppedError   the session takes no more tasks
     │   │   └─ SessionCancelledError    ... since it was cancelled
     │   └─ SessionStepError         the status of the session does not allow this step
     ├─ DeniedError              not allowed
     │   ├─ UnauthenticatedError     we do not know who asks
     │   └─ PermissionDeniedError    we know, and the answer is no
     ├─ OverloadedError          no room at present; safe to retry a little later
     │   └─ LimitError               a configured limit: the same request does not fit later either
     ├─ UnavailableError         the store or the server cannot be reached; safe to retry
     ├─ OutcomeUnknownError      the connection broke while committing: it may have happened
     └─ InvariantError           our bug; never swallowed

The text that a user reads names the thing, the value and the next step. ``wire.codes`` maps
each class to exactly one gRPC code.
"""


class RipienoError(Exception):
    """The root of the errors that this project raises on purpose.

    Attributes:
        detail: One or two sentences for the person who has to act on the error.
        retry_is_safe: Whether the very same call may simply be sent again.
    """

    retry_is_safe = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidRequestError(RipienoError):
    """The request breaks a rule of the protocol.

    Attributes:
        field: The offending field, as the protocol spells it.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


class NotFoundError(RipienoError):
    """There is no such session, task or result."""


class ConflictError(RipienoError):
    """The request is at odds with what exists already."""


class AlreadyExistsError(ConflictError):
    """An id or a result key is taken; nothing was created.

    Attributes:
        taken: All ids and result keys of the request that are taken.
        NAMED: Most of them that the text names.
    """

    NAMED = 10

    def __init__(self, what: str, taken: list[str]) -> None:
        shown = ", ".join(repr(name) for name in taken[: self.NAMED])
        more = f" and {len(taken) - self.NAMED} more" if len(taken) > self.NAMED else ""
        super().__init__(f"{what} already taken: {shown}{more}; nothing was created")
        self.taken = taken


class SubmissionStoppedError(ConflictError):
    """The session takes no more tasks."""

    def __init__(self, session_id: str, why: str) -> None:
        super().__init__(f"session {session_id!r} {why}; create a new session to submit more work")


class SessionStepError(ConflictError):
    """The status of the session does not allow this step; nothing was changed."""

    @classmethod
    def of(cls, session_id: str, step: str, problem: str) -> "SessionStepError":
        """Make the error of a session, with the step's word (``SessionStep``)."""
        return cls(f"session {session_id!r} cannot be {step}: {problem}")


class SessionCancelledError(SubmissionStoppedError):
    """The session was cancelled and takes no more work."""

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id, "is cancelled")


class DeniedError(RipienoError):
    """The caller may not do this."""


class UnauthenticatedError(DeniedError):
    """The caller is not known."""


class PermissionDeniedError(DeniedError):
    """The caller is known and may not do this."""


class OverloadedError(RipienoError):
    """The server has no room for the request at present; nothing happened, and a retry a little later is safe."""

    retry_is_safe = True


class LimitError(OverloadedError):
    """The request is beyond a configured limit: ask for less, or free what is held.

    Attributes:
        limit: The limit's name; empty if it is not known.
    """

    retry_is_safe = False

    def __init__(self, detail: str, limit: str = "") -> None:
        super().__init__(detail)
        self.limit = limit


class UnavailableError(RipienoError):
    """The store or the server cannot be reached; nothing happened, and a retry is safe."""

    retry_is_safe = True


class OutcomeUnknownError(RipienoError):
    """The connection broke during a commit, so the request took effect or did not.

    Submissions may be sent again all the same: if the first one had succeeded, an identical one
    succeeds and changes nothing.
    """

    retry_is_safe = True


class InvariantError(RipienoError):
    """A rule that this project has to keep is broken, which is a bug of ours."""
