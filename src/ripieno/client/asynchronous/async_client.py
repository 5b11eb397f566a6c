"""``AsyncClient``: the client for programs with an event loop."""

import os
import uuid
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc.aio

from ripieno.client.asynchronous.async_session import AsyncSession
from ripieno.client.connection.background import Background
from ripieno.client.connection.connection import Connection
from ripieno.client.reading.events import Events, follow_events
from ripieno.client.reading.inputs import TaskInputs, fetch_inputs
from ripieno.client.reading.lists import (
    ListedAgent,
    ListedAttempt,
    ListedPartition,
    ListedResult,
    ListedSession,
    ListedTask,
    list_rows,
)
from ripieno.client.terms.definitions import DEFAULT_MAX_DURATION_S, DEFAULT_MAX_RETRIES, TaskOptions
from ripieno.client.terms.errors import already_exists
from ripieno.client.terms.handles import checked_name
from ripieno.config import DEFAULT_ADDRESS
from ripieno.contexts import default_place
from ripieno.domain.addresses import parse_addresses
from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import NotFoundError
from ripieno.domain.explanations import Explanation
from ripieno.domain.options import MIN_PRIORITY
from ripieno.wire.explanations import explanation_from_wire
from ripieno.wire.options import options_to_wire
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc

DEFAULT_PATIENCE_S = 30.0


class AsyncClient:
    """A connection to a cluster::

        async with AsyncClient() as client:
            session = await client.session(max_retries=1)
            task = await session.submit(b"21")
            print(await task.result(timeout=10))

    Args:
        address: ``HOST:PORT`` or ``unix:/path`` of the control plane; several replicas are separated
            by commas, and any of them may serve a call. None takes the environment variable
            RIPIENO_ADDRESS, else the context in use (RIPIENO_CONTEXT, or ``ripieno context use``), else 127.0.0.1:5001.
        patience: How long a call is repeated while no server answers or has room, in seconds.
        use_proxy: Connect through the proxy that ``http_proxy`` and similar variables name; by
            default they are ignored. Loopback addresses and unix sockets are always reached directly.

    Raises:
        InvalidRequestError: ``address``, or RIPIENO_ADDRESS in its place, is not a valid address; or the file of
            contexts cannot be used.
        NotFoundError: RIPIENO_CONTEXT names no context.

    Attributes:
        address: The address in use, in canonical spelling; several are separated by commas.
    """

    def __init__(
        self, address: str | None = None, *, patience: float = DEFAULT_PATIENCE_S, use_proxy: bool = False
    ) -> None:
        text: object = address
        if not isinstance(text, str | None):
            raise TypeError(f"address is a text such as {DEFAULT_ADDRESS!r}, not {text!r}")
        addresses = parse_addresses("address", default_place().address if address is None else address)
        self._connection = Connection(addresses, patience, use_proxy=use_proxy)
        self.address = self._connection.address
        self._is_open = False
        self._background = Background()

    async def __aenter__(self) -> Self:
        """Open the channels; nothing is sent yet."""
        self._connection.open()
        await self._background.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End calls that are under way and close the channels. Sessions and tasks live on in the cluster."""
        self._is_open = False
        try:
            await self._background.__aexit__(kind, error, trace)
        finally:
            await self._connection.close()

    async def session(
        self,
        *,
        priority: int = MIN_PRIORITY,
        max_retries: int = DEFAULT_MAX_RETRIES,
        max_duration: float | timedelta = DEFAULT_MAX_DURATION_S,
        partition: str | None = None,
        options: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - the protocol's word
    ) -> AsyncSession:
        """Create a session, which is durable when this returns.

        Args:
            priority: Default priority of the session's tasks, 1 to 99; larger is more urgent.
            max_retries: How many attempts of a task may follow its first one if that fails.
            max_duration: Time limit of one attempt, in seconds or as a timedelta.
            partition: Pool of workers that may run the session's tasks; None is the default pool.
            options: Free map of text to text, handed to the worker.
            id: The session's id; None makes a unique one.

        Raises:
            InvalidRequestError: an option is out of range, or the id breaks a rule for names.
            AlreadyExistsError: a session with this id exists, or has existed.
            UnavailableError: no server answered.
        """
        connection = self._opened()
        task_options = TaskOptions(priority, max_retries, max_duration, partition, options or {})
        session_id = str(uuid.uuid4()) if id is None else checked_name("session id", id)
        request = submitter_service_pb2.CreateSessionRequest(
            id=session_id, default_task_option=options_to_wire(task_options.checked())
        )
        await _create(connection, request, id_is_ours=id is None)
        return AsyncSession(connection, self._background, session_id, task_options)

    async def open_session(self, id: str) -> AsyncSession:  # noqa: A002 - the protocol's word
        """Attach to a session that exists, cancelled or not.

        Raises:
            InvalidRequestError: the id breaks a rule for names.
            NotFoundError: there is no session with this id.
            UnavailableError: no server answered.
        """
        connection = self._opened()
        checked_name("session id", id)
        known = await connection.call(
            "look up the session",
            connection.submitter.ListSessions,
            submitter_service_pb2.SessionFilter(sessions=[id]),
        )
        if id not in known.session_ids:
            raise NotFoundError(f"there is no session {id!r}; create it with session(id=...)")
        return AsyncSession(connection, self._background, id, None)

    async def inputs(self, task_id: str, payload: str | os.PathLike[str]) -> TaskInputs:
        """Return what a task runs on, and write its payload to a file, in bounded memory; a file that exists is replaced.

        The data dependencies are results of the session like any others: ``session.download`` fetches them.

        Args:
            task_id: The task's id, or that of one of its attempts.
            payload: The file for the payload.

        Raises:
            NotFoundError: there is no such task.
            ConflictError: its payload is gone, or is a result that is not there yet.
            UnavailableError: no server answered.
            OSError: the file cannot be written.
        """
        return await fetch_inputs(self._opened(), checked_name("task id", task_id), Path(payload))

    async def explain(self, task_id: str) -> Explanation:
        """Return why a task is not running, or why it failed.

        Example: ``print(await client.explain(task.id))``. Each reason has a kind, a sentence that ends with the way out,
        and the same as data. The server looks at the task, what it needs and the line before it, and at no more.

        Args:
            task_id: The task's id, or that of one of its attempts.

        Raises:
            InvalidRequestError: the id breaks a rule for names.
            NotFoundError: there is no such task.
            UnavailableError: no server answered.
        """
        connection = self._opened()
        request = tasks_pb2.TaskId(task_id=checked_name("task id", task_id))
        stub = connection.stub(tasks_pb2_grpc.TasksStub)
        return explanation_from_wire(await connection.call("explain a task", stub.Explain, request))

    def events(
        self, *session_ids: str, cursor: str | None = None, snapshot: bool = True
    ) -> AsyncGenerator[Events, None]:
        """Follow what happens in sessions: first what there is, then each change once, until closed.

        Args:
            session_ids: The sessions; none: all of the cluster.
            cursor: Go on behind the events that had this cursor; None begins.
            snapshot: Whether to begin with what there is, rather than with what is committed from now on.

        Raises:
            NotFoundError: one of the sessions does not exist.
            InvalidRequestError: the cursor is none.
            UnavailableError: no server answered.
        """
        return follow_events(self._opened(), session_ids, cursor, snapshot=snapshot)

    def list_sessions(
        self, where: str = "", *, sort: str = "", limit: int | None = None
    ) -> AsyncGenerator[ListedSession, None]:
        """Yield sessions; see ``list_tasks``."""
        return list_rows(self._opened(), Listed.SESSIONS, ListedSession, where, sort, limit)

    def list_tasks(
        self, where: str = "", *, sort: str = "", limit: int | None = None
    ) -> AsyncGenerator[ListedTask, None]:
        """Yield tasks of all sessions, oldest first, as they are read.

        Example: ``client.list_tasks("status=ERROR and options.priority>5", sort="-ended_at", limit=10)``. The other
        lists take the same arguments.

        Args:
            where: Conditions on fields of the tasks (`docs/protocol.md`, part 8); empty for all.
            sort: Fields to sort by, with commas between them, each with a minus before it for the opposite order.
            limit: The most tasks.

        Raises:
            InvalidRequestError: ``where`` or ``sort`` means nothing; the error says which part, and the way out.
            LimitError: the query takes the database too long; narrow it.
            UnavailableError: no server answered.
        """
        return list_rows(self._opened(), Listed.TASKS, ListedTask, where, sort, limit)

    def list_attempts(
        self, where: str = "", *, sort: str = "", limit: int | None = None
    ) -> AsyncGenerator[ListedAttempt, None]:
        """Yield attempts; see ``list_tasks``."""
        return list_rows(self._opened(), Listed.ATTEMPTS, ListedAttempt, where, sort, limit)

    def list_results(
        self, where: str = "", *, sort: str = "", limit: int | None = None
    ) -> AsyncGenerator[ListedResult, None]:
        """Yield results; see ``list_tasks``."""
        return list_rows(self._opened(), Listed.RESULTS, ListedResult, where, sort, limit)

    def list_agents(
        self, where: str = "", *, sort: str = "", limit: int | None = None
    ) -> AsyncGenerator[ListedAgent, None]:
        """Yield agents; see ``list_tasks``."""
        return list_rows(self._opened(), Listed.AGENTS, ListedAgent, where, sort, limit)

    def list_partitions(
        self, where: str = "", *, sort: str = "", limit: int | None = None
    ) -> AsyncGenerator[ListedPartition, None]:
        """Yield partitions; see ``list_tasks``."""
        return list_rows(self._opened(), Listed.PARTITIONS, ListedPartition, where, sort, limit)

    def _opened(self) -> Connection:
        if not self._is_open:
            raise RuntimeError("the client is not open; use it inside `async with AsyncClient() as client:`")
        return self._connection


async def _create(
    connection: Connection, request: submitter_service_pb2.CreateSessionRequest, *, id_is_ours: bool
) -> None:
    patience = connection.patience("create a session")
    while True:
        try:
            reply = await connection.submitter.CreateSession(request)
        except grpc.aio.AioRpcError as failure:
            await patience.pause(failure)
            continue
        # An id that was generated here can be taken only by an earlier try of this very call, which thus succeeded.
        if reply.WhichOneof("result") == "error" and not (id_is_ours and patience.retries):
            raise already_exists(reply.error)
        patience.renew()
        return
