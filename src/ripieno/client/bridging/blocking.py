"""``Client``: the client for programs without an event loop, which runs ``AsyncClient`` over a bridge.

Nothing is implemented here. The classes differ from ``AsyncClient`` and ``AsyncSession`` in
that a call returns when it is done, and that handles and iterators are of the blocking
kind.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, overload

from ripieno.client.asynchronous.async_client import DEFAULT_PATIENCE_S, AsyncClient
from ripieno.client.asynchronous.async_session import AsyncSession, HandleT
from ripieno.client.bridging.bridge import Bridge, blocking, blocking_as
from ripieno.client.reading.events import Events
from ripieno.client.reading.failures import TaskFailure
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
from ripieno.client.reading.retries import refuse
from ripieno.client.terms.definitions import OptionChanges, Payload, TaskDefinition, TaskOptions
from ripieno.client.terms.handles import OneResult, ResultHandle, TaskHandle
from ripieno.domain.statuses import TaskStatus


class Task(TaskHandle):
    """A submitted task of a Session."""

    __slots__ = ()
    session: "Session"

    def result(self, key: str | None = None, *, timeout: float | None = None) -> bytes:
        """Wait for the task's only result, or the one named, and return its bytes; see ``Session.result``."""
        return self.session.result(self.key if key is None else key, timeout=timeout)

    def status(self) -> TaskStatus:
        """Return the task's current status; see ``AsyncTask.status``."""
        return self.status_in(self.session.status(self))

    def output(self, attempt: int | None = None) -> TaskOutput:
        """Return what the task's latest attempt, or the one with that number, has printed; see ``Session.output``."""
        return self.session.output(self, attempt)

    def progress(self) -> TaskProgress | None:
        """Return how far the task has come, if it runs; see ``Session.progress``."""
        return self.session.progress(self)

    def failure(self, attempt: int | None = None) -> TaskFailure:
        """Return how the task's latest failed attempt, or the one with that number, failed; see ``Session.failure``."""
        return self.session.failure(self, attempt)

    def cancel(self) -> None:
        """Cancel the task unless it is final."""
        self.session.cancel_tasks(self)

    def retry(self, changes: OptionChanges | None = None) -> None:
        """Give the task another attempt after it has failed; see ``AsyncTask.retry``."""
        refuse(self.id, self.session.retry(self, changes))


class Session:
    """A session: tasks that share default options and can be cancelled together.

    Made by ``Client.session`` or ``open_session``.

    Attributes:
        target: The AsyncSession that does the work.
    """

    def __init__(self, bridge: Bridge, target: AsyncSession) -> None:
        self.bridge = bridge
        self.target = target

    def __repr__(self) -> str:
        """Show the session's id."""
        return f"<Session {self.id!r}>"

    @property
    def id(self) -> str:
        """The session's id."""
        return self.target.id

    @property
    def task_options(self) -> TaskOptions | None:
        """The session's default options; None if it was opened with ``open_session``, as servers do not report them."""
        return self.target.task_options

    def submit(
        self,
        payload: Payload | TaskDefinition = b"",
        *,
        expected_outputs: str | Sequence[str] = (),
        dependencies: OneResult | Iterable[OneResult] = (),
        id: str | None = None,  # noqa: A002 - the protocol's word
        task_options: TaskOptions | None = None,
    ) -> Task:
        """Submit one task; see ``AsyncSession.submit``."""
        definition = TaskDefinition.of(payload, expected_outputs, dependencies, id)
        return self.submit_many([definition], task_options=task_options)[0]

    def submit_many(
        self, tasks: Iterable[TaskDefinition | Payload], *, task_options: TaskOptions | None = None
    ) -> list[Task]:
        """Submit tasks and return one handle each, in their order; see ``AsyncSession.submit_many``.

        ``tasks`` is read to its end first, in the calling thread.
        """
        whole = tasks if isinstance(tasks, list | tuple) else list(tasks)
        return self.bridge.run(self.target.send(whole, task_options, partial(Task, self)))

    @overload
    def results(
        self, tasks: Iterable[HandleT], *, with_data: bool = True, timeout: float | None = None
    ) -> Iterator[Result[HandleT]]: ...
    @overload
    def results(
        self, tasks: Iterable[str | ResultHandle], *, with_data: bool = True, timeout: float | None = None
    ) -> Iterator[Result[None]]: ...
    def results(
        self, tasks: Iterable[OneResult], *, with_data: bool = True, timeout: float | None = None
    ) -> Iterator[Result[Any]]:
        """Yield results as they become final, each once; see ``AsyncSession.results``."""
        whole = list(tasks)
        batches = self.target.result_batches(whole, with_data=with_data, timeout=timeout)
        return itertools.chain.from_iterable(self.bridge.iterate(batches))

    def result_chunks(self, key: OneResult, *, timeout: float | None = None) -> Iterator[bytes]:
        """Wait for one result and yield its bytes piece by piece; see ``AsyncSession.result_chunks``."""
        return self.bridge.iterate(self.target.result_chunks(key, timeout=timeout))

    def follow_output(self, task: str | TaskHandle, attempt: int | None = None) -> Iterator[TaskOutput]:
        """Yield what an attempt prints until the attempt has ended; see ``AsyncSession.follow_output``."""
        return self.bridge.iterate(self.target.follow_output(task, attempt))

    def follow_progress(self) -> Iterator[TaskProgress]:
        """Yield how far tasks of the session have come until the caller stops; see ``AsyncSession.follow_progress``."""
        return self.bridge.iterate(self.target.follow_progress())

    result = blocking(AsyncSession.result)
    output = blocking(AsyncSession.output)
    progress = blocking(AsyncSession.progress)
    failure = blocking(AsyncSession.failure)
    download = blocking(AsyncSession.download)
    wait = blocking(AsyncSession.wait)
    status = blocking(AsyncSession.status)
    result_status = blocking(AsyncSession.result_status)
    counts = blocking(AsyncSession.counts)
    task_ids = blocking(AsyncSession.task_ids)
    put = blocking(AsyncSession.put)
    create_results = blocking(AsyncSession.create_results)
    upload = blocking(AsyncSession.upload)
    delete_data = blocking(AsyncSession.delete_data)
    cancel = blocking(AsyncSession.cancel)
    cancel_tasks = blocking(AsyncSession.cancel_tasks)
    retry = blocking(AsyncSession.retry)
    retry_failed = blocking(AsyncSession.retry_failed)
    pause = blocking(AsyncSession.pause)
    resume = blocking(AsyncSession.resume)
    stop_submission = blocking(AsyncSession.stop_submission)
    close_session = blocking(AsyncSession.close_session)
    purge = blocking(AsyncSession.purge)
    delete = blocking(AsyncSession.delete)


class Client:
    """A connection to a cluster, for any number of threads::

        with Client() as client:
            session = client.session(max_retries=1)
            print(session.submit(b"21").result(timeout=10))

    A new client is open at once; nothing is sent before the first call.

    Args:
        address: ``HOST:PORT`` or ``unix:/path`` of the control plane; several replicas are separated
            by commas, and any of them may serve a call. None takes the environment variable
            RIPIENO_ADDRESS, else the context in use (RIPIENO_CONTEXT, or ``ripieno context use``), else 127.0.0.1:5001.
        patience: How long a call is repeated while no server answers or has room, in seconds.
        use_proxy: As for ``AsyncClient``.
    """

    def __init__(
        self, address: str | None = None, *, patience: float = DEFAULT_PATIENCE_S, use_proxy: bool = False
    ) -> None:
        self.target = AsyncClient(address, patience=patience, use_proxy=use_proxy)
        self.bridge = Bridge(self.target)

    @property
    def address(self) -> str:
        """The address in use, in canonical spelling; several are separated by commas."""
        return self.target.address

    session = blocking_as(Session, AsyncClient.session)
    open_session = blocking_as(Session, AsyncClient.open_session)
    explain = blocking(AsyncClient.explain)
    inputs = blocking(AsyncClient.inputs)

    def events(self, *session_ids: str, cursor: str | None = None, snapshot: bool = True) -> Iterator[Events]:
        """Follow what happens in sessions; see ``AsyncClient.events``."""
        return self.bridge.iterate(self.target.events(*session_ids, cursor=cursor, snapshot=snapshot))

    def list_sessions(self, where: str = "", *, sort: str = "", limit: int | None = None) -> Iterator[ListedSession]:
        """Yield sessions; see ``AsyncClient.list_tasks``."""
        return self.bridge.iterate(self.target.list_sessions(where, sort=sort, limit=limit))

    def list_tasks(self, where: str = "", *, sort: str = "", limit: int | None = None) -> Iterator[ListedTask]:
        """Yield tasks; see ``AsyncClient.list_tasks``."""
        return self.bridge.iterate(self.target.list_tasks(where, sort=sort, limit=limit))

    def list_attempts(self, where: str = "", *, sort: str = "", limit: int | None = None) -> Iterator[ListedAttempt]:
        """Yield attempts; see ``AsyncClient.list_tasks``."""
        return self.bridge.iterate(self.target.list_attempts(where, sort=sort, limit=limit))

    def list_results(self, where: str = "", *, sort: str = "", limit: int | None = None) -> Iterator[ListedResult]:
        """Yield results; see ``AsyncClient.list_tasks``."""
        return self.bridge.iterate(self.target.list_results(where, sort=sort, limit=limit))

    def list_agents(self, where: str = "", *, sort: str = "", limit: int | None = None) -> Iterator[ListedAgent]:
        """Yield agents; see ``AsyncClient.list_tasks``."""
        return self.bridge.iterate(self.target.list_agents(where, sort=sort, limit=limit))

    def list_partitions(
        self, where: str = "", *, sort: str = "", limit: int | None = None
    ) -> Iterator[ListedPartition]:
        """Yield partitions; see ``AsyncClient.list_tasks``."""
        return self.bridge.iterate(self.target.list_partitions(where, sort=sort, limit=limit))

    def close(self) -> None:
        """Close the connection; sessions and tasks live on in the cluster. May be repeated."""
        self.bridge.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()
