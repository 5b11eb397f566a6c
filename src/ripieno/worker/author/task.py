"""``Task`` and ``AsyncTask``: a task as its handler sees it."""

import asyncio
import logging
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import BinaryIO

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import attempt_of_alias
from ripieno.domain.options import TaskOptions
from ripieno.domain.progress import LONGEST_TEXT, Progress
from ripieno.interruptible import is_done_within
from ripieno.worker.attempts import operations
from ripieno.worker.attempts.attempt import Attempt
from ripieno.worker.attempts.drivers import BytesLike, awaiting, blocking
from ripieno.worker.attempts.operations import ResultWriter
from ripieno.worker.author.task_log import logger_of
from ripieno.worker.conversation.conversation import Asked
from ripieno.worker.conversation.sub_tasks import SubTask
from ripieno.worker.terms.errors import TaskCancelled


class _Data(Mapping[str, bytes]):
    """The data dependencies by key; large ones are read from disk each time."""

    def __init__(self, attempt: Attempt) -> None:
        self._spools = attempt.conversation.data

    def __getitem__(self, key: str) -> bytes:
        return self._spools[key].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._spools)

    def __len__(self) -> int:
        return len(self._spools)


class _Received:
    """The inputs of a handler, the same for both kinds of tasks."""

    __slots__ = ("_attempt", "_log")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def session_id(self) -> str:
        """The id of the session that the task belongs to."""
        return self._attempt.conversation.init.session_id

    @property
    def task_id(self) -> str:
        """The attempt's id: the task's id the first time, ``<id>###<n>`` on retry n."""
        return self._attempt.conversation.init.task_id

    @property
    def attempt(self) -> int:
        """The number of this attempt of the task: 0 the first time, n on retry n.

        It is that in ``task_id``: a task whose own id ends in ``###<n>`` counts as such a retry.
        """
        return attempt_of_alias(self._attempt.conversation.init.task_id)

    @property
    def log(self) -> logging.Logger:
        """A logger whose records go to the worker's standard error, and so into the output of this attempt.

        Each is a line with the time (UTC) and the level; further lines, those of a traceback say, are indented. It
        takes records from INFO on, unless its ``setLevel`` says otherwise, and hands none to other loggers. It is
        made when first used, and gone with the task.
        """
        try:
            return self._log
        except AttributeError:
            self._log: logging.Logger = logger_of(self.task_id)
            return self._log

    @property
    def options(self) -> dict[str, str]:
        """The free map of the task's options."""
        return dict(self._attempt.conversation.init.task_options)

    @property
    def expected_output_keys(self) -> tuple[str, ...]:
        """The keys of the results that the task is to make."""
        return tuple(self._attempt.conversation.init.expected_output_keys)

    @property
    def payload(self) -> bytes:
        """The task's input, whole. For a large payload prefer ``open_payload``."""
        return self._attempt.conversation.payload.read()

    def open_payload(self) -> BinaryIO:
        """Open the task's input as a readable binary file, valid until the handler returns.

        Whatever its size, at most 1 MiB of it is in memory.
        """
        return self._attempt.conversation.payload.open()

    @property
    def data(self) -> Mapping[str, bytes]:
        """The bytes of the data dependencies by key. For large ones prefer ``open_data``."""
        return _Data(self._attempt)

    def open_data(self, key: str) -> BinaryIO:
        """Open one data dependency as a readable binary file, valid until the handler returns.

        Raises:
            KeyError: the task does not depend on ``key``.
        """
        return self._attempt.conversation.data[key].open()

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is cancelled, timed out or lost. Nothing that the handler still does counts then."""
        return self._attempt.cancelled

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the attempt has come, for whoever follows it (``session.follow_progress``).

        This costs next to nothing, and never waits: the agent is told at most once a second, of what was said last.
        Nothing is kept when the attempt has ended. Agents that speak the original protocol alone are not told.

        Args:
            fraction: From 0 to 1.
            text: What people see beside it; at most 200 characters, of a longer text the rest is cut off.

        Raises:
            InvalidRequestError: the fraction is not between 0 and 1.
            TaskCancelled, AttemptOver: the attempt is cancelled, or its handler has returned.
        """
        if not 0 <= fraction <= 1:
            raise InvalidRequestError("fraction", f"is {fraction}; it goes from 0, nothing done, to 1, all done")
        self._attempt.require_usable()
        # Surrogates, which UTF-8 does not hold, are written out.
        sayable = text[:LONGEST_TEXT].encode(errors="backslashreplace").decode()
        self._attempt.report(Progress.sound(float(fraction), sayable))

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled if the attempt is cancelled; call this now and then in a long computation.

        Raises:
            TaskCancelled: the attempt is cancelled; clean up and let the exception through.
        """
        if self._attempt.cancelled:
            raise TaskCancelled

    def _cancellation(self) -> tuple[str, Future[None]]:
        """Return a future that is cancelled when the attempt is, or is over, and its name for ``stop_waiting``."""
        attempt = self._attempt
        name = attempt.new_request_id()
        future = attempt.wait_for(name, Future[None]())
        if attempt.over:
            future.cancel()
        return name, future


class Task(_Received):
    """A task for a handler that is a plain function.

    The methods that talk to the cluster raise TaskCancelled once the attempt is
    cancelled. They may be called from any thread of the handler, until it returns.
    """

    __slots__ = ()

    def send_result(self, key: str, data: BytesLike | Iterable[BytesLike]) -> None:
        """Send one result, as bytes or as pieces of any length, in bounded memory.

        The result becomes visible when the attempt is committed, together with all else that
        the task made, or not at all.

        Raises:
            InvalidRequestError: ``key`` is not an expected output that is still owed.
            TypeError: a piece is not bytes.
            OSError: the result goes to the object store, whose disk is full, or fails.
        """
        writer = ResultWriter(self._attempt, key)
        for piece in (data,) if isinstance(data, BytesLike) else data:
            blocking(writer.write(piece))
        blocking(writer.end())

    def submit(self, sub_tasks: Iterable[SubTask], options: TaskOptions | None = None) -> list[SubTask]:
        """Create sub-tasks: all of them or none, and only if this attempt is committed.

        Args:
            sub_tasks: The sub-tasks. One whose ``expected_output_keys`` contain a key of this task
                takes over that result (delegation): do not send it then.
            options: The options of the sub-tasks; None takes the session's defaults. Times go into their free map:
                ``TaskOptions(..., options=TimerOptions(delay=60).entries())``.

        Raises:
            InvalidRequestError: the batch breaks a rule; nothing was sent.
            SubTasksRefused: the cluster refused the batch; none of its sub-tasks exists.
        """
        return blocking(operations.submit(self._attempt, list(sub_tasks), options))

    def resource(self, key: str) -> bytes:
        """Return the bytes of a completed result of the session, read from the store.

        Raises:
            InvalidRequestError: no result can have such a key.
            ResultUnavailable: the result is unknown or not completed.
        """
        return blocking(operations.fetch(self._attempt, Asked.RESOURCE, key))

    def common_data(self, key: str) -> bytes:
        """Return a result's bytes like ``resource``, fetched once per agent and kept there for the session's tasks."""
        return blocking(operations.fetch(self._attempt, Asked.COMMON_DATA, key))

    def direct_data(self, key: str) -> bytes:
        """Return a result's bytes like ``resource``, but only if the agent has them already."""
        return blocking(operations.fetch(self._attempt, Asked.DIRECT_DATA, key))

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Wait until the attempt is cancelled, and return whether it is; for a thread that stops the work then.

        Args:
            timeout: How long to wait, in seconds; None means until the attempt is cancelled or over.
        """
        name, future = self._cancellation()
        try:
            is_done_within(future, timeout)
        finally:
            self._attempt.stop_waiting(name)
        return self._attempt.cancelled


class AsyncTask(_Received):
    """A task for a handler that is a coroutine function.

    The methods of Task are coroutines here. When the attempt is cancelled, the handler's
    coroutine is cancelled as asyncio does it.
    """

    __slots__ = ()

    async def send_result(self, key: str, data: BytesLike | Iterable[BytesLike] | AsyncIterable[BytesLike]) -> None:
        """Send one result; see ``Task.send_result``. The pieces may also come from an asynchronous iterable."""
        writer = ResultWriter(self._attempt, key)
        if isinstance(data, AsyncIterable):
            async for piece in data:
                await awaiting(writer.write(piece))
        else:
            for piece in (data,) if isinstance(data, BytesLike) else data:
                await awaiting(writer.write(piece))
        await awaiting(writer.end())

    async def submit(self, sub_tasks: Iterable[SubTask], options: TaskOptions | None = None) -> list[SubTask]:
        """Create sub-tasks; see ``Task.submit``."""
        return await awaiting(operations.submit(self._attempt, list(sub_tasks), options))

    async def resource(self, key: str) -> bytes:
        """Return the bytes of a completed result of the session; see ``Task.resource``."""
        return await awaiting(operations.fetch(self._attempt, Asked.RESOURCE, key))

    async def common_data(self, key: str) -> bytes:
        """Return a result's bytes, kept by the agent for the session's tasks; see ``Task.common_data``."""
        return await awaiting(operations.fetch(self._attempt, Asked.COMMON_DATA, key))

    async def direct_data(self, key: str) -> bytes:
        """Return a result's bytes if the agent has them already; see ``Task.direct_data``."""
        return await awaiting(operations.fetch(self._attempt, Asked.DIRECT_DATA, key))

    async def wait_cancelled(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as for Task
        """Wait until the attempt is cancelled, and return whether it is; see ``Task.wait_cancelled``.

        This is for other asyncio tasks that the handler has started: in the handler's own coroutine a cancellation
        raises asyncio.CancelledError here, as it does everywhere.
        """
        name, future = self._cancellation()
        cancelled = asyncio.wrap_future(future)
        try:
            await asyncio.wait((cancelled,), timeout=timeout)
        finally:
            self._attempt.stop_waiting(name)
            cancelled.cancel()
        return self._attempt.cancelled
