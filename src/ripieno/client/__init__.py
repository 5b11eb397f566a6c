"""The client SDK: submit tasks to a cluster, wait for them and fetch their results.

::

    with Client() as client:                               # or: async with AsyncClient() as client:
        session = client.session(max_retries=3)            # defaults of its tasks
        tasks = session.submit_many([b"1", b"2"])          # durable when it returns
        for result in session.results(tasks):              # as they become final
            print(result.task.id, result.data)

``AsyncClient`` is the implementation. ``Client`` runs it over a bridge to an event loop in a
thread, which all blocking clients of a process share. The modules below them::

    blocking ── bridge ── stay ── loop
       │
    async_client ── async_session ─┬─ submission ── large_submission ── payloads
                                   ├─ results ── following | waiting ── fetching
                                   ├─ lookups (single results that share a stream)
                                   ├─ retries
                                   ├─ lists
                                   └─ inquiries (statuses, counts, waits, cancelling)
    connection, patience, errors, forks: used by all of them

Rules that tests cite:

* CLIENT-1  The client retries only what may be repeated without harm: reads, waits, cancelling,
  and submissions that are identical.
* CLIENT-2  A result is yielded once, also when the connection breaks in between.
* CLIENT-3  A payload or result is held in memory whole only where the caller asks for bytes.
* CLIENT-4  Handling many tasks never costs one call, one coroutine or one crossing of
  threads for each of them.
"""

from ripieno.client.asynchronous.async_client import AsyncClient
from ripieno.client.asynchronous.async_session import AsyncSession, AsyncTask
from ripieno.client.bridging.blocking import Client, Session, Task
from ripieno.client.reading.events import Events
from ripieno.client.reading.failures import TaskFailure
from ripieno.client.reading.inputs import TaskInputs
from ripieno.client.reading.lists import (
    ListedAgent,
    ListedAttempt,
    ListedPartition,
    ListedResult,
    ListedSession,
    ListedTask,
)
from ripieno.client.reading.outputs import TaskOutput
from ripieno.client.reading.progress import TaskProgress
from ripieno.client.reading.results import Result
from ripieno.client.reading.retries import Retried
from ripieno.client.terms.definitions import OptionChanges, Payload, TaskDefinition, TaskOptions
from ripieno.client.terms.errors import TaskCancelledError, TaskFailedError
from ripieno.client.terms.handles import ResultHandle
from ripieno.domain.changes import Change, ResultChange, SessionChange, TaskChange
from ripieno.domain.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    InvalidRequestError,
    InvariantError,
    LimitError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    PermissionDeniedError,
    RipienoError,
    SessionCancelledError,
    SessionStepError,
    UnauthenticatedError,
    UnavailableError,
)
from ripieno.domain.explanations import AttemptTold, Explanation, Reason
from ripieno.domain.outcomes import AttemptError
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus

__all__ = [
    "AlreadyExistsError",
    "AsyncClient",
    "AsyncSession",
    "AsyncTask",
    "AttemptError",
    "AttemptTold",
    "Change",
    "Client",
    "ConflictError",
    "DeniedError",
    "Events",
    "Explanation",
    "InvalidRequestError",
    "InvariantError",
    "LimitError",
    "ListedAgent",
    "ListedAttempt",
    "ListedPartition",
    "ListedResult",
    "ListedSession",
    "ListedTask",
    "NotFoundError",
    "OptionChanges",
    "OutcomeUnknownError",
    "OverloadedError",
    "Payload",
    "PermissionDeniedError",
    "Reason",
    "Result",
    "ResultChange",
    "ResultHandle",
    "ResultStatus",
    "Retried",
    "RipienoError",
    "Session",
    "SessionCancelledError",
    "SessionChange",
    "SessionStatus",
    "SessionStepError",
    "Task",
    "TaskCancelledError",
    "TaskChange",
    "TaskDefinition",
    "TaskFailedError",
    "TaskFailure",
    "TaskInputs",
    "TaskOptions",
    "TaskOutput",
    "TaskProgress",
    "TaskStatus",
    "UnauthenticatedError",
    "UnavailableError",
]
