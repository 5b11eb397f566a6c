"""The errors of the worker SDK: those that a handler may raise, and those that the SDK raises.

::

    RipienoError
     ├─ TaskError               raised by a handler: the task failed for good
     ├─ HandlerError            the handler cannot be loaded, or gave what cannot be used
     ├─ ResultUnavailable       a datum that was asked for is not there
     ├─ SubTasksRefused         the cluster did not take a batch of sub-tasks
     ├─ AttemptOver             the task was used after its handler had returned
     ├─ ProtocolViolation       the agent sent what the protocol does not allow
     ├─ StartupError            a function of ``@startup`` failed, so that the worker takes no task
     └─ ServeError              the worker cannot listen where it was told to
    BaseException
     └─ TaskCancelled           the attempt is cancelled: let it through
"""

from collections.abc import Sequence

from ripieno.domain.errors import RipienoError

#: The attribute of a handler's exception, of any kind, whose bytes go with the failure to whoever asks for it.
FAILURE_VALUE_ATTRIBUTE = "__ripieno_failure_value__"


class TaskError(RipienoError):
    """The task has failed for good: a handler raises this to say so.

    The task becomes ERROR with this text and is never retried; its results are aborted
    and its sub-tasks never exist. Any other exception fails this attempt alone, and
    another may follow.

    Args:
        detail: The reason, for people.
        value: What a program that asks for the failure (``session.failure``) is given beside the text, in any format.
            More than 64 KiB are left out, as if there were no value. Any other exception may carry such bytes, too:
            in an attribute ``__ripieno_failure_value__``.
    """

    def __init__(self, detail: str, *, value: bytes | None = None) -> None:
        super().__init__(detail)
        if value is not None:
            setattr(self, FAILURE_VALUE_ATTRIBUTE, value)

    @property
    def value(self) -> bytes | None:
        """What goes with the failure; None for nothing."""
        return getattr(self, FAILURE_VALUE_ATTRIBUTE, None)


class HandlerError(RipienoError):
    """The handler cannot be loaded, or returned something that cannot be a result."""


class ResultUnavailable(RipienoError):  # noqa: N818 - reads as a state, like the protocol's own word
    """A datum that was asked for is unknown, not completed, or not in this cache.

    Attributes:
        key: The result key that was asked for.
        reason: Why it is not there, in the agent's words.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"result {key!r} is not available: {reason}")
        self.key = key
        self.reason = reason


class SubTasksRefused(RipienoError):  # noqa: N818 - reads as an event
    """The cluster refused a batch of sub-tasks; none of the batch exists, and the task goes on.

    Attributes:
        ids: Ids of the offending sub-tasks, or of all of the batch when the fault is the batch's.
    """

    NAMED = 10

    def __init__(self, ids: Sequence[str]) -> None:
        shown = ", ".join(repr(name) for name in ids[: self.NAMED])
        more = f" and {len(ids) - self.NAMED} more" if len(ids) > self.NAMED else ""
        super().__init__(
            f"sub-tasks refused: {shown or 'the whole batch'}{more}; no sub-task of this batch was created. Their ids must be new, and"
            " their expected outputs new or still owed by this task"
        )
        self.ids = tuple(ids)


class AttemptOver(RipienoError):  # noqa: N818 - reads as a state
    """The task was used after its attempt had ended."""


class ProtocolViolation(RipienoError):  # noqa: N818 - the word of docs/protocol.md, section 4
    """The agent sent a message that the protocol does not allow at this point."""


class StartupError(RipienoError):
    """A function that was registered with ``@startup`` failed; its exception is the ``__cause__``."""


class ServeError(RipienoError):
    """The worker cannot listen where it was told to."""


class TaskCancelled(BaseException):
    """The attempt is cancelled; nothing that its handler still does counts.

    Like asyncio's CancelledError this is not an ``Exception``, so that an ``except Exception``
    around a call of the SDK does not swallow it. Clean up and let it through.
    """
