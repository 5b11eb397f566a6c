"""The Submitter service: each method decodes a request, calls a part of the replica, and encodes the reply."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import wraps
from typing import Any, TypeVar

import grpc
import grpc.aio

from ripieno.config import ControlSettings
from ripieno.control.calls.arrivals import arrived_bytes
from ripieno.control.calls.limits import ControlLimits, check_options
from ripieno.control.results.downloads import pieces
from ripieno.control.results.failures import task_error
from ripieno.control.results.handover import Handover
from ripieno.control.results.listing import Listings
from ripieno.control.results.lookups import ResultLookups
from ripieno.control.results.room import Room
from ripieno.control.submitting.submissions import Submissions
from ripieno.control.upkeep.cancellation import Cancellation
from ripieno.control.waiting.waits import Waits
from ripieno.domain.data import StoredObject
from ripieno.domain.errors import InvalidRequestError, NotFoundError, SessionStepError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.cluster.signals import News
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import count_tasks, find_tasks, result_statuses, task_failure
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import KnownSession, Sessions
from ripieno.wire.chunks import chunks
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.requests import (
    distinct_ids,
    new_tasks,
    optional_options,
    session_filter,
    session_to_create,
    task_filter,
    wanted_result,
)
from ripieno.wire.statuses import RESULT_TO_WIRE, TASK_TO_WIRE

Context = grpc.aio.ServicerContext[Any, Any]

#: Entries of a reply that are built before other calls have their turn on the event loop.
_ENTRIES_AT_ONCE = 2_000

_AVAILABLE = submitter_service_pb2.AvailabilityReply(ok=objects_pb2.Empty())
_DATA_COMPLETE = submitter_service_pb2.ResultReply(result=objects_pb2.DataChunk(data_complete=True))

# The method names below are the protocol's.
# ruff: noqa: N802

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
Answer = Callable[["Submitter", RequestT, Context], Awaitable[ReplyT]]


def _of_one_incarnation(method: Answer[RequestT, ReplyT]) -> Answer[RequestT, ReplyT]:
    """Decorate a method that uses several statements: it fails unless one incarnation of the database answers all."""

    @wraps(method)
    async def answer(self: "Submitter", request: RequestT, context: Context) -> ReplyT:
        with self._database.one_incarnation():
            return await method(self, request, context)

    return answer


class Submitter(submitter_service_pb2_grpc.SubmitterServicer):
    """Implements the Submitter service for clients."""

    def __init__(
        self,
        settings: ControlSettings,
        database: Database,
        sessions: Sessions,
        objects: ObjectStore,
        submissions: Submissions,
        cancellation: Cancellation,
        waits: Waits,
        lookups: ResultLookups,
        downloads: Room,
    ) -> None:
        self._settings = settings
        self._limits = ControlLimits(settings.limits)
        self._database = database
        self._sessions = sessions
        self._objects = objects
        self._submissions = submissions
        self._cancellation = cancellation
        self._waits = waits
        self._lookups = lookups
        self._downloads = downloads
        self._listings = Listings(database, self._limits.ids_per_reply)
        self._handover = Handover()
        database.on_new_incarnation.append(self._handover.clear)

    def changed_here(self, changes: Changes) -> None:
        """Drop what is kept of sessions that were purged or deleted."""
        self._sessions.forget(changes.gone)
        self._handover.forget(changes.gone)

    def changed_elsewhere(self, news: News) -> None:
        """Drop what is kept of sessions that another replica has purged or deleted; everything, if news may be lost."""
        if news.everything:
            self._sessions.forget_all()
            self._handover.clear()
        self._sessions.forget(news.gone)
        self._handover.forget(news.gone)

    async def GetServiceConfiguration(self, request: objects_pb2.Empty, context: Context) -> objects_pb2.Configuration:
        """Return the longest data chunk that clients and workers may send."""
        return objects_pb2.Configuration(data_chunk_max_size=self._settings.data_chunk_max_size)

    async def CreateSession(
        self, request: submitter_service_pb2.CreateSessionRequest, context: Context
    ) -> submitter_service_pb2.CreateSessionReply:
        """Create a session. An id that is taken is reported inside the reply, not as a gRPC error (legacy)."""
        session_id, default = session_to_create(request)
        check_options(self._limits, default)
        if await self._sessions.create(session_id, default):
            return submitter_service_pb2.CreateSessionReply(ok=objects_pb2.Empty())
        return submitter_service_pb2.CreateSessionReply(error=f"session {session_id!r} exists already")

    async def CancelSession(self, request: submitter_service_pb2.Session, context: Context) -> objects_pb2.Empty:
        """Cancel a session and its unfinished tasks; reply when none of its cancelled attempts can begin any more."""
        check_identifier("id", request.id)
        with suppress(SessionStepError):  # it was purged, and has nothing that is unfinished
            await self._cancellation.session(request.id)
        return objects_pb2.Empty()

    async def CreateSmallTasks(
        self, request: submitter_service_pb2.CreateSmallTaskRequest, context: Context
    ) -> objects_pb2.CreateTaskReply:
        """Create all tasks of the request or none; they are durable when the reply is sent."""
        check_identifier("session_id", request.session_id)
        options = optional_options(request)
        tasks = new_tasks("task_requests", request.task_requests, self._settings.data_chunk_max_size)
        await self._submissions.submit(request.session_id, options, tasks, arrived_bytes())
        return objects_pb2.CreateTaskReply(successfull=objects_pb2.Empty())

    async def CreateLargeTasks(self, request_iterator: Any, context: Context) -> objects_pb2.CreateTaskReply:
        """Create all tasks of a stream or none; they are durable when the reply is sent."""
        await self._submissions.submit_stream(request_iterator, self._objects)
        return objects_pb2.CreateTaskReply(successfull=objects_pb2.Empty())

    @_of_one_incarnation
    async def ListTasks(self, request: submitter_service_pb2.TaskFilter, context: Context) -> objects_pb2.TaskIdList:
        """List the ids of the matching tasks in the order of submission."""
        return await self._listings.tasks(task_filter(request), context)

    async def ListSessions(
        self, request: submitter_service_pb2.SessionFilter, context: Context
    ) -> submitter_service_pb2.SessionIdList:
        """List the ids of the matching sessions in the order of creation."""
        limit = self._limits.ids_per_reply
        found = await self._sessions.list(session_filter(request), limit.value + 1)
        limit.check(len(found))
        return submitter_service_pb2.SessionIdList(session_ids=found)

    @_of_one_incarnation
    async def CountTasks(self, request: submitter_service_pb2.TaskFilter, context: Context) -> objects_pb2.Count:
        """Count the matching tasks by status."""
        return _count(await count_tasks(self._database, task_filter(request)))

    # The stubs know generators only; writing to the context is the other documented way.
    async def TryGetResultStream(self, request: objects_pb2.ResultRequest, context: Context) -> None:  # type: ignore[override]
        """Send a result in chunks, or why it has no data; never waits for the result to be finished."""
        session_id, key = wanted_result(request)
        with self._database.one_incarnation():
            session = await self._sessions.find(session_id)
            data: bytes | StoredObject | submitter_service_pb2.ResultReply | None
            data = self._handover.take(session.session_no, key)
            if data is None:
                data = await self._data_or_why(session, key)
        if isinstance(data, submitter_service_pb2.ResultReply):
            await context.write(data)
        else:
            await self._write_data(data, context)

    async def _data_or_why(
        self, session: KnownSession, key: str
    ) -> bytes | StoredObject | submitter_service_pb2.ResultReply:
        result = await self._lookups.find(session.session_no, key)
        if result is None:
            raise NotFoundError(f"result {key!r} does not exist in session {session.id!r}")
        if result.status is ResultStatus.CREATED:
            return submitter_service_pb2.ResultReply(not_completed_task=result.owner_id)
        if result.status.unobtainable:
            return submitter_service_pb2.ResultReply(error=await task_error(self._database, session.session_no, key))
        assert result.data is not None, "INV-13: a completed result has data"
        return result.data

    async def _write_data(self, data: bytes | StoredObject, context: Context) -> None:
        limit = self._settings.data_chunk_max_size
        if isinstance(data, StoredObject):
            async with aclosing(pieces(self._objects, data, self._downloads)) as read:
                async for piece in read:
                    for chunk in chunks(piece, limit):
                        await context.write(_chunk(chunk))
        else:
            with self._downloads.hold(len(data)):
                for chunk in chunks(data, limit):
                    await context.write(_chunk(chunk))
        await context.write(_DATA_COMPLETE)

    @_of_one_incarnation
    async def TryGetTaskOutput(self, request: objects_pb2.ResultRequest, context: Context) -> objects_pb2.Output:
        """Report how a task ended. ``key`` is a task id; the session is ignored (legacy)."""
        check_identifier("key", request.key)
        task = (await find_tasks(self._database, [request.key])).get(request.key)
        if task is None:
            raise NotFoundError(f"task {request.key!r} does not exist")
        if task.status is TaskStatus.COMPLETED:
            return objects_pb2.Output(ok=objects_pb2.Empty())
        if not task.status.final:
            return _output_error(f"task {task.id!r} is not finished: it is {task.status.name}")
        failure = await task_failure(self._database, task.task_no)
        last = failure.errors[-1].detail if failure.errors else ""
        return _output_error(last or f"task {task.id!r} ended in {task.status.name}")

    @_of_one_incarnation
    async def WaitForAvailability(
        self, request: objects_pb2.ResultRequest, context: Context
    ) -> submitter_service_pb2.AvailabilityReply:
        """Wait until a result is completed or aborted."""
        session_id, key = wanted_result(request)
        session = await self._sessions.find(session_id)
        finished = await self._waits.availability(session.session_no, key)
        if finished.status is ResultStatus.COMPLETED:
            if finished.data is not None:
                self._handover.put(session.session_no, key, finished.data)
            return _AVAILABLE
        error = await task_error(self._database, session.session_no, key)
        return submitter_service_pb2.AvailabilityReply(error=error)

    @_of_one_incarnation
    async def WaitForCompletion(
        self, request: submitter_service_pb2.WaitRequest, context: Context
    ) -> objects_pb2.Count:
        """Wait until the matching tasks are finished, or until a flag of the request ends the wait early."""
        if not request.HasField("filter"):
            raise InvalidRequestError("filter", "is not set; name sessions or tasks")
        counts = await self._waits.completion(
            task_filter(request.filter, "filter."),
            stop_on_error=request.stop_on_first_task_error,
            stop_on_cancellation=request.stop_on_first_task_cancellation,
        )
        return _count(counts)

    async def CancelTasks(self, request: submitter_service_pb2.TaskFilter, context: Context) -> objects_pb2.Empty:
        """Cancel the matching tasks that are unfinished."""
        await self._cancellation.tasks(task_filter(request))
        return objects_pb2.Empty()

    @_of_one_incarnation
    async def GetTaskStatus(
        self, request: submitter_service_pb2.GetTaskStatusRequest, context: Context
    ) -> submitter_service_pb2.GetTaskStatusReply:
        """Report the statuses of known tasks in the order of the request; unknown ids are left out."""
        asked = distinct_ids(request.task_ids)
        found = await find_tasks(self._database, asked)
        reply = submitter_service_pb2.GetTaskStatusReply()
        for place, task_id in enumerate(asked):
            if place % _ENTRIES_AT_ONCE == 0:
                await asyncio.sleep(0)  # other calls have their turn
            if task_id in found:
                reply.id_statuses.add(task_id=task_id, status=TASK_TO_WIRE[found[task_id].status])
        return reply

    @_of_one_incarnation
    async def GetResultStatus(
        self, request: submitter_service_pb2.GetResultStatusRequest, context: Context
    ) -> submitter_service_pb2.GetResultStatusReply:
        """Report the statuses of known results in the order of the request; unknown keys are left out."""
        check_identifier("session_id", request.session_id)
        asked = distinct_ids(request.result_ids)
        reply = submitter_service_pb2.GetResultStatusReply()
        try:
            session = await self._sessions.find(request.session_id)
        except NotFoundError:
            return reply  # unknown ids are left out, and all ids of an unknown session are unknown
        statuses = await result_statuses(self._database, session.session_no, asked)
        for place, key in enumerate(asked):
            if place % _ENTRIES_AT_ONCE == 0:
                await asyncio.sleep(0)
            if key in statuses:
                reply.id_statuses.add(result_id=key, status=RESULT_TO_WIRE[statuses[key]])
        return reply


def _chunk(data: bytes) -> submitter_service_pb2.ResultReply:
    return submitter_service_pb2.ResultReply(result=objects_pb2.DataChunk(data=data))


def _count(counts: Mapping[TaskStatus, int]) -> objects_pb2.Count:
    return objects_pb2.Count(
        values=[objects_pb2.StatusCount(status=TASK_TO_WIRE[status], count=count) for status, count in counts.items()]
    )


def _output_error(details: str) -> objects_pb2.Output:
    return objects_pb2.Output(error=objects_pb2.Output.Error(details=details))
