"""``AsyncSession`` and ``AsyncTask``: sessions and tasks for programs with an event loop."""

# ruff: noqa: ASYNC109 - one meaning of `timeout` for both flavours; the blocking one has no asyncio.timeout

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

from ripieno.client.connection.background import Background
from ripieno.client.connection.connection import Connection
from ripieno.client.connection.patience import time_limit
from ripieno.client.reading import inquiries
from ripieno.client.reading.failures import TaskFailure, task_failure
from ripieno.client.reading.fetching import Wanted, fetch, fetch_chunks, save
from ripieno.client.reading.following import Follower
from ripieno.client.reading.lookups import Lookups
from ripieno.client.reading.outputs import TaskOutput, follow_task_output, task_output
from ripieno.client.reading.progress import TaskProgress, follow_progress, task_progress
from ripieno.client.reading.results import Result, final_result, result_batches
from ripieno.client.reading.retries import Retried, refuse, retry_failed, retry_tasks
from ripieno.client.submitting import lives, uploads
from ripieno.client.submitting.submission import TaskSender
from ripieno.client.submitting.uploads import Progress
from ripieno.client.terms.definitions import OptionChanges, Payload, TaskDefinition, TaskOptions
from ripieno.client.terms.handles import OneResult, ResultHandle, TaskHandle, checked_results, ids_of, key_of, keys_of
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2

#: One task or several, as handles or ids.
Tasks = str | TaskHandle | Iterable[str | TaskHandle]

HandleT = TypeVar("HandleT", bound=TaskHandle)


class AsyncTask(TaskHandle):
    """A submitted task of an AsyncSession."""

    __slots__ = ()
    session: "AsyncSession"

    async def result(self, key: str | None = None, *, timeout: float | None = None) -> bytes:
        """Wait for the task's only result, or the one named, and return its bytes; see ``AsyncSession.result``."""
        return await self.session.result(self.key if key is None else key, timeout=timeout)

    async def status(self) -> TaskStatus:
        """Return the task's current status.

        Raises:
            NotFoundError: the task is unknown.
        """
        return self.status_in(await self.session.status(self))

    async def output(self, attempt: int | None = None) -> TaskOutput:
        """Return what the task's latest attempt, or the one with that number, has printed; see ``AsyncSession.output``."""
        return await self.session.output(self, attempt)

    async def progress(self) -> TaskProgress | None:
        """Return how far the task has come, if it runs; see ``AsyncSession.progress``."""
        return await self.session.progress(self)

    async def failure(self, attempt: int | None = None) -> TaskFailure:
        """Return how the task's latest failed attempt, or the one with that number, failed; see ``AsyncSession.failure``."""
        return await self.session.failure(self, attempt)

    async def cancel(self) -> None:
        """Cancel the task unless it is final."""
        await self.session.cancel_tasks(self)

    async def retry(self, changes: OptionChanges | None = None) -> None:
        """Give the task another attempt after it has failed; what failed only because of it waits again.

        Args:
            changes: What is different in its options.

        Raises:
            ConflictError: the task is not retried; the error says why.
            RipienoError: as for ``AsyncSession.retry``.
        """
        refuse(self.id, await self.session.retry(self, changes))


class AsyncSession:
    """A session: tasks that share default options and can be cancelled together.

    Made by ``AsyncClient.session`` or ``open_session``.

    Attributes:
        id: The session's id.
        task_options: The session's default options; None if it was opened with ``open_session``,
            since servers do not report them.
    """

    def __init__(
        self, connection: Connection, background: Background, session_id: str, task_options: TaskOptions | None
    ) -> None:
        self.id = session_id
        self.task_options = task_options
        self._connection = connection
        self._background = background
        self._sender = TaskSender(connection, session_id)
        self._lookups = Lookups(connection, session_id, background)

    def __repr__(self) -> str:
        """Show the session's id."""
        return f"<AsyncSession {self.id!r}>"

    async def submit(
        self,
        payload: Payload | TaskDefinition = b"",
        *,
        expected_outputs: str | Sequence[str] = (),
        dependencies: OneResult | Iterable[OneResult] = (),
        id: str | None = None,  # noqa: A002 - the protocol's word
        task_options: TaskOptions | None = None,
    ) -> AsyncTask:
        """Submit one task, which is durable when this returns.

        Args:
            payload: The task's input: bytes, a path, an iterable of bytes, or a result of ``put``; or the whole
                task as a TaskDefinition, in place of this argument and the next three.
            expected_outputs: Keys of the results that the task makes; none means one result, whose
                key is the task's id.
            dependencies: Results that the task needs before it starts: keys, or tasks with one result.
            id: The task's id; None makes a unique one.
            task_options: Options that replace the session's defaults as a whole; None keeps the defaults.

        Raises:
            InvalidRequestError: a name or an option breaks a rule.
            AlreadyExistsError: the id or a key is taken by a task that is not identical.
            SessionCancelledError: the session was cancelled and accepts no more tasks.
            UnavailableError: no server answered; a task with an id of its own may be submitted again.
        """
        definition = TaskDefinition.of(payload, expected_outputs, dependencies, id)
        return (await self.submit_many([definition], task_options=task_options))[0]

    async def submit_many(
        self, tasks: Iterable[TaskDefinition | Payload], *, task_options: TaskOptions | None = None
    ) -> list[AsyncTask]:
        """Submit tasks and return one handle each, in their order. The tasks are durable when this returns.

        Small tasks are sent up to 1,000 (or 2 MiB) to a call, large ones as streams, four
        calls at a time. **Each call is atomic, the whole is not**: when a call is refused, no
        further call begins, and a note on the error says how many tasks were accepted, if any. Tasks
        with ids of their own may simply be submitted again. Tasks of one priority that are sent in
        different calls may be claimed in another order than the one given.

        Raises:
            RipienoError: as for ``submit``.
        """
        return await self.send(tasks, task_options, partial(AsyncTask, self))

    async def send(
        self,
        tasks: Iterable[TaskDefinition | Payload],
        task_options: TaskOptions | None,
        handle: Callable[[str, tuple[str, ...]], HandleT],
    ) -> list[HandleT]:
        """Submit tasks as ``submit_many`` does, with handles made by ``handle``; for wrappers of this class."""
        return await self._sender.send(tasks, task_options, handle)

    async def result(self, key: OneResult, *, timeout: float | None = None) -> bytes:
        """Wait for one result and return its bytes.

        Args:
            key: The result's key, or a task with one result.
            timeout: Limit for waiting and fetching together, in seconds; None means no limit.

        Raises:
            TaskFailedError: the result was aborted and will never exist.
            NotFoundError: no task has announced the key, or the session is unknown.
            TimeoutError: the bytes did not arrive within ``timeout``.
        """
        name = key_of(key)
        async with time_limit(timeout, f"result {name!r} is not here"):
            final = await self._final(name)
            if final.has_data:
                return final.data
            return await fetch(self._connection, self.id, Wanted(name, final.stored))

    async def result_chunks(self, key: OneResult, *, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        """Wait for one result and yield its bytes piece by piece, in bounded memory.

        Args:
            key: The result's key, or a task with one result.
            timeout: How long to wait until the result is final, in seconds; reading it has no limit.

        Raises:
            RipienoError: as for ``result``.
            TimeoutError: the result was not final within ``timeout``.
        """
        name = key_of(key)
        async with time_limit(timeout, f"result {name!r} is not final"):
            final = await self._final(name)
        if final.has_data:
            yield final.data
            return
        async with aclosing(fetch_chunks(self._connection, self.id, Wanted(name, final.stored))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def download(self, key: OneResult, path: str | os.PathLike[str], *, timeout: float | None = None) -> int:
        """Wait for one result and write it to a file, in bounded memory.

        The file appears whole or not at all; an existing file is replaced.

        Returns:
            The file's size in bytes.

        Raises:
            RipienoError, TimeoutError: as for ``result_chunks``.
            OSError: the file cannot be written.
        """
        async with aclosing(self.result_chunks(key, timeout=timeout)) as chunks:
            return await save(chunks, Path(path))

    @overload
    def results(
        self, tasks: Iterable[HandleT], *, with_data: bool = True, timeout: float | None = None
    ) -> AsyncIterator[Result[HandleT]]: ...
    @overload
    def results(
        self, tasks: Iterable[str | ResultHandle], *, with_data: bool = True, timeout: float | None = None
    ) -> AsyncIterator[Result[None]]: ...
    async def results(
        self, tasks: Iterable[OneResult], *, with_data: bool = True, timeout: float | None = None
    ) -> AsyncIterator[Result[Any]]:
        """Yield results as they become final, each once.

        A result that failed is yielded like the others: look at its ``error``, or read
        its ``data``, which raises that error.

        Args:
            tasks: Tasks (all their expected outputs) or result keys.
            with_data: False leaves the bytes out: stream them with ``result_chunks``.
            timeout: Limit for all results together, in seconds; None means no limit.

        Raises:
            RipienoError: the session is unknown, or no server answered.
            TimeoutError: some results were not yielded within ``timeout``.
        """
        async with aclosing(self.result_batches(tasks, with_data=with_data, timeout=timeout)) as batches:
            async for batch in batches:
                for result in batch:
                    yield result

    async def result_batches(
        self,
        tasks: Iterable[OneResult],
        *,
        with_data: bool = True,
        large_data: bool = True,
        timeout: float | None = None,
    ) -> AsyncGenerator[list[Result[Any]], None]:
        """Yield what ``results`` yields, in batches as they come over the wire; for wrappers of this class.

        Without ``large_data``, results that are too large to be pushed have no data: stream them.
        """
        clock = asyncio.get_running_loop().time
        give_up_at = None if timeout is None else clock() + timeout
        wanted = checked_results(tasks)
        final = result_batches(self._connection, self.id, wanted, with_data=with_data, large_data=large_data)
        async with aclosing(final) as batches:
            while True:
                try:
                    async with asyncio.timeout_at(give_up_at):
                        batch = await anext(batches, None)
                except TimeoutError:
                    raise TimeoutError(f"not all results are final after {timeout:g} s") from None
                if batch is None:
                    return
                yield batch

    async def wait(self, tasks: Tasks | None = None, *, timeout: float | None = None) -> dict[TaskStatus, int]:
        """Wait until tasks are final, whether they succeeded or not.

        Args:
            tasks: Handles or ids; None means all tasks of the session, with those that are
                submitted meanwhile (sub-tasks too).
            timeout: How long to wait, in seconds; None means no limit.

        Returns:
            How many tasks ended in each status; unknown ids are left out.

        Raises:
            TimeoutError: some tasks were not final within ``timeout``.
        """
        async with time_limit(timeout, "not all tasks are final"):
            if tasks is None:
                return await inquiries.wait_for_session(self._connection, self.id)
            return await inquiries.wait_for_tasks(self._connection, ids_of(tasks))

    async def status(self, tasks: Tasks | None = None) -> dict[str, TaskStatus]:
        """Return statuses by task id, of all tasks of the session if ``tasks`` is None; unknown ids are left out."""
        task_ids = await self.task_ids() if tasks is None else ids_of(tasks)
        return await inquiries.task_statuses(self._connection, task_ids)

    async def result_status(self, results: OneResult | Iterable[OneResult]) -> dict[str, ResultStatus]:
        """Return statuses by result key; unknown keys are left out."""
        return await inquiries.result_statuses(self._connection, self.id, keys_of(results))

    async def output(self, task: str | TaskHandle, attempt: int | None = None) -> TaskOutput:
        """Return what a worker wrote to its standard output and standard error while it ran an attempt of a task.

        Only the end of much output is kept (64 KiB of each, unless the agent was told otherwise).

        Args:
            task: A handle or an id.
            attempt: Number of the attempt, from 0; None means the latest.

        Raises:
            NotFoundError: there is no such task, or it has no such attempt.
        """
        [task_id] = ids_of(task)
        return await task_output(self._connection, task_id, attempt)

    async def follow_output(
        self, task: str | TaskHandle, attempt: int | None = None
    ) -> AsyncGenerator[TaskOutput, None]:
        """Yield what an attempt prints as it comes, each byte once, until the attempt has ended.

        The last one has ``over``. Arguments and errors are those of ``output``.
        """
        [task_id] = ids_of(task)
        async with aclosing(follow_task_output(self._connection, task_id, attempt)) as pieces:
            async for piece in pieces:
                yield piece

    async def progress(self, task: str | TaskHandle) -> TaskProgress | None:
        """Return how far a task has come that runs, as its handler said last with ``task.progress``.

        None if it does not run, or says nothing. Its agent is asked, which takes 0.1 s, and 1.5 s where it says
        nothing: for many tasks, or again and again, use ``follow_progress``.

        Raises:
            NotFoundError: there is no such task.
        """
        [task_id] = ids_of(task)
        return await task_progress(self._connection, task_id)

    async def follow_progress(self) -> AsyncGenerator[TaskProgress, None]:
        """Yield how far tasks of the session have come, each whenever it has come further, until the caller stops.

        One call serves all tasks of the session. Each attempt is told at most about once a second; whoever reads
        slowly is told the latest. Tasks that have ended are not told of: ``results`` and ``wait`` do that.

        Raises:
            RipienoError: the session is unknown, or no server answered.
        """
        async with aclosing(follow_progress(self._connection, self.id)) as reports:
            async for report in reports:
                yield report

    async def failure(self, task: str | TaskHandle, attempt: int | None = None) -> TaskFailure:
        """Return how an attempt of a task has failed, with what its worker attached to the failure for programs.

        Where a task failed for want of an input, ``root_task_id`` names the task that is to blame: ask for its failure.

        Args:
            task: A handle or an id.
            attempt: Number of the attempt, from 0; None means the latest that failed.

        Raises:
            NotFoundError: there is no such task, or the attempt has not failed (yet).
        """
        [task_id] = ids_of(task)
        return await task_failure(self._connection, task_id, attempt)

    async def counts(self) -> dict[TaskStatus, int]:
        """Return how many tasks of the session are in each status; a status without tasks has no entry."""
        return await inquiries.count(self._connection, self.id)

    async def task_ids(self) -> list[str]:
        """Return the ids of all tasks of the session, sub-tasks too, in the order of submission."""
        return await inquiries.list_ids(self._connection, self.id)

    async def put(self, data: Payload, *, name: str = "", progress: Progress | None = None) -> ResultHandle:
        """Store data as a result of the session, which tasks may take as a dependency or as their payload.

        The result is durable when this returns. Large data is uploaded in bounded memory; if the connection
        breaks, the upload goes on from where the server has it safe.

        Args:
            data: Bytes, a path, or an iterable of bytes.
            name: A name for people; need not be unique.
            progress: Called with the number of bytes that are safe so far.

        Raises:
            RipienoError: the session takes no data, or no server answered.
            OutcomeUnknownError: the connection broke, and an iterator cannot be read a second time.
            OSError: the file cannot be read.
        """
        return await uploads.put(self._connection, self.id, data, name, progress)

    async def create_results(self, names: Sequence[str]) -> list[ResultHandle]:
        """Create results without data: for ``upload``, or as expected outputs of tasks that are submitted later.

        Raises:
            RipienoError: the session takes no results, or no server answered.
        """
        return await uploads.create(self._connection, self.id, names)

    async def upload(self, result: OneResult, data: Payload, *, progress: Progress | None = None) -> None:
        """Upload the data of a result that was created without, as ``put`` does; the same data may be sent again.

        Raises:
            ConflictError: the result has other data, or a task makes it.
            RipienoError: as for ``put``.
        """
        await uploads.upload(self._connection, self.id, key_of(result), data, progress)

    async def delete_data(self, results: OneResult | Iterable[OneResult]) -> list[str]:
        """Delete the data of completed results; tasks that need it fail. May be repeated.

        Returns:
            The keys whose data is gone now; unknown ones and those that are not COMPLETED are left out.
        """
        return await uploads.delete_data(self._connection, self.id, keys_of(results))

    async def cancel(self) -> None:
        """Cancel the session: its unfinished tasks, and any that would still be submitted. May be repeated.

        Once this has returned, no cancelled task starts and none commits.
        """
        await self._connection.call(
            "cancel the session", self._connection.submitter.CancelSession, submitter_service_pb2.Session(id=self.id)
        )

    async def pause(self) -> SessionStatus:
        """Pause the session: once this has returned, no task of it starts that had not been handed to an agent.

        Tasks that run end, and tasks may be submitted. May be repeated.

        Returns:
            The session's status.

        Raises:
            NotFoundError: the session is unknown.
            SessionStepError: its status does not allow it.
        """
        return await lives.pause(self._connection, self.id)

    async def resume(self) -> SessionStatus:
        """Resume the session: what was held back since ``pause`` may start. Returns and raises as ``pause`` does."""
        return await lives.resume(self._connection, self.id)

    async def stop_submission(self, *, clients: bool = False, workers: bool = False) -> None:
        """Stop submission of tasks for good: by clients, by workers (sub-tasks), or both."""
        await lives.stop_submission(self._connection, self.id, clients=clients, workers=workers)

    async def close_session(self) -> SessionStatus:
        """Close the session for good: it takes no more tasks, and those that it has end.

        A task that creates sub-tasks fails from then on. Returns and raises as ``pause`` does.
        """
        return await lives.close(self._connection, self.id)

    async def purge(self) -> SessionStatus:
        """Delete the data of all payloads and results of a session that is closed or cancelled, and has ended.

        The tasks, their statuses and their reasons stay. The data goes in the background, soon after this has
        returned. Returns and raises as ``pause`` does.
        """
        return await lives.purge(self._connection, self.id)

    async def delete(self) -> None:
        """Cancel the session, and delete all that it has. Its id cannot be used again for a year. May be repeated.

        Raises:
            NotFoundError: the session is unknown.
        """
        await lives.delete(self._connection, self.id)

    async def cancel_tasks(self, tasks: Tasks) -> None:
        """Cancel tasks that are not final; the others stay as they are. May be repeated."""
        await inquiries.cancel(self._connection, ids_of(tasks))

    async def retry(self, tasks: Tasks, changes: OptionChanges | None = None) -> Retried:
        """Give tasks of the session that failed by themselves another attempt, maybe with changed options.

        Once this has returned, what failed only because of them waits again: results that are asked for from then on
        are those of the new attempts. May be repeated. Tells which tasks are not retried, and why.

        Raises:
            InvalidRequestError: an option is out of range.
            SessionCancelledError: the session was cancelled, or its data is gone.
        """
        return await retry_tasks(self._connection, self.id, ids_of(tasks), changes)

    async def retry_failed(self, changes: OptionChanges | None = None, *, filter: str | None = None) -> Retried:  # noqa: A002 - as in lists
        """Do what ``retry`` does for all failed tasks of the session, or those that match a filter of lists.

        Tells which of them have an input that will not come.
        """
        return await retry_failed(self._connection, self.id, changes, filter)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a coroutine that is cancelled when the client is closed; for wrappers of this class."""
        return self._background.start(work)

    def follower(self) -> Follower:
        """Return a follower of the session's results, for wrappers of this class that add keys as they go."""
        return Follower(self._connection, self.id)

    async def _final(self, key: str) -> Result[None]:
        result = final_result(await self._lookups.get(key), None)
        if result.error is not None:
            raise result.error
        return result
