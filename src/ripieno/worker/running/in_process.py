"""``run_task``: run a handler on one task in this process, without an agent and without a cluster.

The handler gets the same ``Task`` as in a worker, its exceptions and return value mean the same, and what it sends
is checked by the same code. What only a cluster can decide is left out: time limits, retries, whether a name is taken in
the session, limits of the control plane. What a worker does once, the functions of ``@startup`` and ``@shutdown``, is
left to the caller (``preparation``). Nothing outlives the call but its ``Outcome``.

::

    outcome = run_task(handle, b"payload", data={"needed": b"bytes"}, expected_output_keys=["sum"])
    assert outcome.results["sum"] == b"3"
"""

import asyncio
import os
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from ripieno.domain.identifiers import check_identifier
from ripieno.domain.options import TaskOptions
from ripieno.domain.submission import NewTask, check_tasks
from ripieno.wire.chunks import DEFAULT_CHUNK_BYTES
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2
from ripieno.worker.attempts.local_attempt import Input, LocalAttempt
from ripieno.worker.conversation.spool import Spool
from ripieno.worker.conversation.sub_tasks import SubTask
from ripieno.worker.process.forks import end_child
from ripieno.worker.running.handlers import is_async
from ripieno.worker.running.runner import AsyncHandler, Handler, run_one_awaiting, run_one_blocking


class Results(Mapping[str, bytes]):
    """Results by key; those of more than 1 MiB are read from disk each time."""

    def __init__(self, spools: Mapping[str, Spool]) -> None:
        self._spools = spools

    def __getitem__(self, key: str) -> bytes:
        """Return the bytes of a result."""
        return self._spools[key].read()

    def __iter__(self) -> Iterator[str]:
        """Yield the keys, in the order in which the results were begun."""
        return iter(self._spools)

    def __len__(self) -> int:
        """Return the number of results."""
        return len(self._spools)

    def open(self, key: str) -> BinaryIO:
        """Open a result as a readable binary file; at most 1 MiB of it is in memory."""
        return self._spools[key].open()

    def size(self, key: str) -> int:
        """Return the size of a result in bytes."""
        return self._spools[key].size


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a run of a handler ended.

    Attributes:
        results: What the handler made, by key; nothing if it failed.
        missing: Expected outputs that were neither made nor passed to a sub-task. In a cluster the task is
            COMPLETED all the same, and these are ABORTED.
        sub_tasks: The sub-tasks that it created, in order, which do not exist anywhere; nothing if it failed.
        sub_task_options: The options of sub-tasks by id; those without an entry have the session's.
        reason: Why the attempt failed, in the words that a cluster would keep; None if it did not.
        is_final: Whether a cluster would not retry it (the handler raised TaskError).
        error: The exception that the handler raised; None if it raised none.
    """

    results: Results
    missing: tuple[str, ...]
    sub_tasks: tuple[SubTask, ...]
    sub_task_options: Mapping[str, TaskOptions]
    reason: str | None
    is_final: bool
    error: BaseException | None

    @property
    def ok(self) -> bool:
        """Whether the attempt did not fail."""
        return self.reason is None

    @property
    def result(self) -> bytes:
        """The bytes of the only result.

        Raises:
            ValueError: the handler failed, or made none or several results.
        """
        if self.reason is not None:
            raise ValueError(f"there is no result: the handler failed: {self.reason}")
        if len(self.results) != 1:
            raise ValueError(f"there are {len(self.results)} results: {', '.join(self.results) or 'none was made'}")
        return next(iter(self.results.values()))


def run_task(
    handler: Handler | AsyncHandler,
    payload: Input = b"",
    *,
    data: Mapping[str, Input] | None = None,
    options: Mapping[str, str] | None = None,
    expected_output_keys: Sequence[str] = ("out",),
    resources: Mapping[str, bytes] | None = None,
    task_id: str | None = None,
    session_id: str = "local",
) -> Outcome:
    """Run a handler on one task, in this thread, and return how it ended. A handler that fails raises nothing here.

    Args:
        handler: ``def handle(task: Task)`` or ``async def handle(task: AsyncTask)``, as for ``serve``.
        payload: The task's input: bytes, or the path of a file.
        data: The data dependencies by key: bytes, or paths of files.
        options: The free map of the task's options.
        expected_output_keys: Keys of the results that the task is to make.
        resources: What ``task.resource``, ``common_data`` and ``direct_data`` find, by key.
        task_id: The id that the handler sees; None makes one.
        session_id: The session's id that the handler sees.

    Raises:
        InvalidRequestError: a name breaks a rule that a cluster would not let pass either.
        OSError: a file cannot be read.
        RuntimeError: the handler is a coroutine function and this thread runs an event loop: await ``run_task_async``.
        KeyboardInterrupt: Ctrl-C came while the handler ran.
    """
    attempt = _prepared(payload, data, options, expected_output_keys, resources, task_id, session_id)
    watch = _Watch(handler)
    if is_async(handler):
        asyncio.run(run_one_awaiting(attempt, watch.run_async))
    else:
        run_one_blocking(attempt, watch.run)
    return _outcome(attempt, watch)


async def run_task_async(
    handler: Handler | AsyncHandler,
    payload: Input = b"",
    *,
    data: Mapping[str, Input] | None = None,
    options: Mapping[str, str] | None = None,
    expected_output_keys: Sequence[str] = ("out",),
    resources: Mapping[str, bytes] | None = None,
    task_id: str | None = None,
    session_id: str = "local",
) -> Outcome:
    """Run a handler on one task, on this event loop; see ``run_task``. A plain function runs in the loop's thread."""
    attempt = _prepared(payload, data, options, expected_output_keys, resources, task_id, session_id)
    watch = _Watch(handler)
    if is_async(handler):
        await run_one_awaiting(attempt, watch.run_async)
    else:
        run_one_blocking(attempt, watch.run)
    return _outcome(attempt, watch)


class _Watch:
    """Calls a handler and keeps the exception that it raised, for whoever wants to see more than its text."""

    def __init__(self, handler: Handler | AsyncHandler) -> None:
        self._handler: Any = handler
        self._process = os.getpid()
        self.error: BaseException | None = None

    def run(self, task: Any) -> Any:
        try:
            value = self._handler(task)
        except BaseException as error:
            self._caught(error)
            raise
        self._end_child(None)
        return value

    async def run_async(self, task: Any) -> Any:
        try:
            value = await self._handler(task)
        except BaseException as error:
            self._caught(error)
            raise
        self._end_child(None)
        return value

    def _caught(self, error: BaseException) -> None:
        self._end_child(error)
        self.error = error

    def _end_child(self, error: BaseException | None) -> None:
        """End a process that the handler forked and that returned from it: it must not go on as the caller."""
        if os.getpid() != self._process:
            end_child(error)


def _prepared(
    payload: Input,
    data: Mapping[str, Input] | None,
    options: Mapping[str, str] | None,
    expected_output_keys: Sequence[str],
    resources: Mapping[str, bytes] | None,
    task_id: str | None,
    session_id: str,
) -> LocalAttempt:
    if isinstance(expected_output_keys, str):
        raise TypeError(f"expected_output_keys is a sequence of keys; write [{expected_output_keys!r}]")
    if not isinstance(payload, bytes | os.PathLike):
        raise TypeError(f"payload is bytes or a path, not {type(payload).__name__}")
    task_id = str(uuid.uuid4()) if task_id is None else task_id
    check_identifier("session_id", session_id)
    check_tasks("tasks", [NewTask(task_id, tuple(expected_output_keys), tuple(data or ()), b"")])
    init = worker_service_pb2.ProcessRequest.ComputeRequest.InitRequest(
        configuration=objects_pb2.Configuration(data_chunk_max_size=DEFAULT_CHUNK_BYTES),
        session_id=session_id,
        task_id=task_id,
        task_options=options or {},
        expected_output_keys=expected_output_keys,
    )
    return LocalAttempt(init, payload, data or {}, {} if resources is None else resources)


def _outcome(attempt: LocalAttempt, watch: _Watch) -> Outcome:
    if isinstance(watch.error, KeyboardInterrupt):
        attempt.discard()
        raise watch.error
    made = dict(attempt.results)
    passed_on = {key for task in attempt.sub_tasks for key in task.expected_output_keys}
    owed = [key for key in attempt.conversation.init.expected_output_keys if key not in made and key not in passed_on]
    outcome = Outcome(
        Results(made),
        tuple(owed) if attempt.failure is None else (),
        tuple(attempt.sub_tasks),
        dict(attempt.sub_task_options),
        attempt.failure,
        attempt.is_final,
        watch.error if attempt.failure is not None else None,
    )
    # Large results lie in files without a name, which go with the outcome.
    weakref.finalize(outcome, _close, tuple(made.values()))
    return outcome


def _close(spools: Sequence[Spool]) -> None:
    for spool in spools:
        spool.close()


__all__ = ["Outcome", "Results", "run_task", "run_task_async"]
