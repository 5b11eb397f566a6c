"""A cluster in the memory of a test: the calls that the client makes, over real gRPC.

Its tasks echo their payload at once, unless they are held back to be finished by hand.
"""

# ruff: noqa: N802 - methods have the protocol's names

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from ripieno.wire.chunks import chunks
from ripieno.wire.large_tasks import LargeTasksReader, PayloadContinued, TaskOpened
from ripieno.wire.protos.armonik_v2 import (
    objects_pb2,
    result_status_pb2,
    submitter_service_pb2,
    submitter_service_pb2_grpc,
    task_status_pb2,
)
from ripieno.wire.protos.v1 import agent_pb2, results_pb2, results_pb2_grpc

CHUNK_BYTES = 1_000
PUSHED_BYTES = 5_000
FINAL = {
    task_status_pb2.TASK_STATUS_COMPLETED,
    task_status_pb2.TASK_STATUS_ERROR,
    task_status_pb2.TASK_STATUS_CANCELED,
}

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class FakeTask:
    id: str
    session: str
    outputs: list[str]
    dependencies: list[str]
    options: objects_pb2.TaskOptions | None
    payload: bytes | None
    size: int
    sha256: str
    status: task_status_pb2.TaskStatus.ValueType = task_status_pb2.TASK_STATUS_SUBMITTED


@dataclass
class Faults:
    """What goes wrong: for each method, codes to answer its next calls with.

    Attributes:
        before: Instead of doing anything.
        after: Once it is done: the caller does not learn of it.
        cut_streams_after: Follow, Read and TryGetResultStream break after so many messages, once each entry.
        end_streams_after: Read ends after so many, as if all were well, once each entry.
    """

    before: dict[str, list[grpc.StatusCode]] = field(default_factory=dict)
    after: dict[str, list[grpc.StatusCode]] = field(default_factory=dict)
    cut_streams_after: dict[str, list[int]] = field(default_factory=dict)
    end_streams_after: dict[str, list[int]] = field(default_factory=dict)

    def code(self, when: dict[str, list[grpc.StatusCode]], method: str) -> grpc.StatusCode | None:
        codes = when.get(method)
        return codes.pop(0) if codes else None

    def cut(self, method: str) -> int:
        return _next(self.cut_streams_after, method)

    def end(self, method: str) -> int:
        return _next(self.end_streams_after, method)


def _next(after: dict[str, list[int]], method: str) -> int:
    counts = after.get(method)
    return counts.pop(0) if counts else -1


class FakeCluster(submitter_service_pb2_grpc.SubmitterServicer, results_pb2_grpc.ResultsServicer):
    """The state, and the calls on it.

    Attributes:
        echo: Whether tasks complete as soon as they are submitted.
        calls: How often each method was called.
        asked: Keys that came in over Follow, message by message.
        reads: Whether it has Read.
        sent_whole, cut_short: How many streams of Read and TryGetResultStream ended well or not.
        read: Keys and offsets that came in over Read, call by call.
        directory: Where large results lie and the client is told so, if anywhere.
    """

    #: Calls that no test of the client makes of it.
    Create: Any = None
    Upload: Any = None
    QueryUpload: Any = None
    Import: Any = None
    DeleteData: Any = None
    List: Any = None
    Count: Any = None
    Get: Any = None

    #: Instead of a number of messages: the stream ends at once, as if all were well.
    END = 1_000_000

    def __init__(
        self, *, pushes: bool = True, reads: bool = True, echo: bool = True, objects: Path | None = None
    ) -> None:
        self.echo = echo
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self.asked: list[list[str]] = []
        self.read: list[tuple[list[str], int]] = []
        self.directory: agent_pb2.ObjectDirectory | None = None
        self._stored: dict[tuple[str, str], agent_pb2.StoredObject] = {}
        if objects is not None:
            self.offer(objects)
        self.batches: list[int] = []
        self.sessions: dict[str, objects_pb2.TaskOptions] = {}
        self.cancelled: set[str] = set()
        self.tasks: dict[str, FakeTask] = {}
        self.results: dict[tuple[str, str], bytes | objects_pb2.TaskError | None] = {}
        self.sent_whole: Counter[str] = Counter()
        self.cut_short: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.push_size = 100
        self.streams_ended = 0
        self.gate: asyncio.Event | None = None
        self._pushes = pushes
        self.reads = reads
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None
        self.address = ""

    async def start(self, address: str = "127.0.0.1:0") -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
        submitter_service_pb2_grpc.add_SubmitterServicer_to_server(self, self._server)
        if self._pushes:
            results_pb2_grpc.add_ResultsServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(address)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def finish(self, session: str, key: str, data: bytes | objects_pb2.TaskError) -> None:
        """Make a result final by hand."""
        async with self._changed:
            self.results[session, key] = data
            for task in self.tasks.values():
                if task.session == session and key in task.outputs:
                    failed = isinstance(data, objects_pb2.TaskError)
                    task.status = task_status_pb2.TASK_STATUS_ERROR if failed else task_status_pb2.TASK_STATUS_COMPLETED
            self._changed.notify_all()

    def offer(self, directory: Path, proof: str = "proven") -> None:
        """Let large results lie in a directory from now on."""
        (directory / "proof").write_text(proof)
        self.directory = agent_pb2.ObjectDirectory(path=str(directory), proof_file="proof", proof=proof)

    def lay(self, session: str, key: str) -> Path:
        """Write a result into the directory, once; its file."""
        assert self.directory is not None
        data = self.results[session, key]
        assert isinstance(data, bytes)
        name = hashlib.sha256(f"{session} {key}".encode()).hexdigest()
        path = Path(self.directory.path) / name
        if (session, key) not in self._stored:
            self._stored[session, key] = agent_pb2.StoredObject(name=name, size=len(data))
            path.write_bytes(data)
        return path

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the state holds."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(condition)

    # ------------------------------------------------------------------ faults

    async def _begin(self, method: str, context: Context) -> None:
        self.calls[method] += 1
        async with self._changed:
            self._changed.notify_all()
        if code := self.faults.code(self.faults.before, method):
            await context.abort(code, f"injected {code.name}")

    async def _end(self, method: str, context: Context) -> None:
        if code := self.faults.code(self.faults.after, method):
            await context.abort(code, f"injected {code.name}")

    @asynccontextmanager
    async def _sending(self, method: str) -> AsyncIterator[None]:
        ended = self.cut_short
        try:
            yield
            ended = self.sent_whole
        finally:
            async with self._changed:
                ended[method] += 1
                self._changed.notify_all()

    # ------------------------------------------------------------------ sessions

    async def GetServiceConfiguration(self, request: objects_pb2.Empty, context: Any) -> objects_pb2.Configuration:
        await self._begin("GetServiceConfiguration", context)
        return objects_pb2.Configuration(data_chunk_max_size=CHUNK_BYTES)

    async def CreateSession(
        self, request: submitter_service_pb2.CreateSessionRequest, context: Any
    ) -> submitter_service_pb2.CreateSessionReply:
        await self._begin("CreateSession", context)
        if request.id in self.sessions:
            return submitter_service_pb2.CreateSessionReply(error=f"session {request.id!r} exists already")
        self.sessions[request.id] = request.default_task_option
        await self._end("CreateSession", context)
        return submitter_service_pb2.CreateSessionReply(ok=objects_pb2.Empty())

    async def ListSessions(
        self, request: submitter_service_pb2.SessionFilter, context: Any
    ) -> submitter_service_pb2.SessionIdList:
        await self._begin("ListSessions", context)
        return submitter_service_pb2.SessionIdList(session_ids=[i for i in request.sessions if i in self.sessions])

    async def CancelSession(self, request: submitter_service_pb2.Session, context: Any) -> objects_pb2.Empty:
        await self._begin("CancelSession", context)
        if request.id not in self.sessions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no session {request.id!r}")
        self.cancelled.add(request.id)
        await self._cancel([task for task in self.tasks.values() if task.session == request.id])
        return objects_pb2.Empty()

    # ------------------------------------------------------------------ submission

    async def CreateSmallTasks(
        self, request: submitter_service_pb2.CreateSmallTaskRequest, context: Any
    ) -> objects_pb2.CreateTaskReply:
        async with self._changed:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._changed.notify_all()
        try:
            if self.gate is not None:
                await self.gate.wait()
            await self._begin("CreateSmallTasks", context)
            self.batches.append(len(request.task_requests))
            options = request.task_options if request.HasField("task_options") else None
            tasks = []
            for one in request.task_requests:
                if len(one.payload) > CHUNK_BYTES:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"payload of {one.id!r} is too long")
                digest = hashlib.sha256(one.payload).hexdigest()
                tasks.append(
                    FakeTask(
                        one.id,
                        request.session_id,
                        list(one.expected_output_keys),
                        list(one.data_dependencies),
                        options,
                        one.payload,
                        len(one.payload),
                        digest,
                    )
                )
            await self._accept(request.session_id, tasks, context)
            await self._end("CreateSmallTasks", context)
            return objects_pb2.CreateTaskReply(successfull=objects_pb2.Empty())
        finally:
            self.in_flight -= 1

    async def CreateLargeTasks(self, request_iterator: Any, context: Any) -> objects_pb2.CreateTaskReply:
        await self._begin("CreateLargeTasks", context)
        reader = LargeTasksReader(CHUNK_BYTES)
        session, options, tasks, digest = "", None, [], hashlib.sha256()
        cut = self.faults.cut("CreateLargeTasks")
        count = 0
        async for message in request_iterator:
            if count == cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")
            count += 1
            kind = message.WhichOneof("type")
            if kind == "init_request":
                reader.init_request()
                session = message.init_request.session_id
                if session not in self.sessions:
                    await context.abort(grpc.StatusCode.NOT_FOUND, f"no session {session!r}")
                if message.init_request.HasField("task_options"):
                    options = message.init_request.task_options
                continue
            event = (
                reader.init_task(message.init_task)
                if kind == "init_task"
                else reader.task_payload(message.task_payload)
            )
            if isinstance(event, TaskOpened):
                digest = hashlib.sha256()
                outputs, needs = list(event.expected_output_keys), list(event.data_dependencies)
                tasks.append(FakeTask(event.id, session, outputs, needs, options, None, 0, ""))
            elif isinstance(event, PayloadContinued):
                digest.update(event.data)
                tasks[-1].size += len(event.data)
                tasks[-1].sha256 = digest.hexdigest()
        reader.end() if not tasks else None
        await self._accept(session, tasks, context)
        await self._end("CreateLargeTasks", context)
        return objects_pb2.CreateTaskReply(successfull=objects_pb2.Empty())

    async def _accept(self, session: str, tasks: list[FakeTask], context: Context) -> None:
        if session not in self.sessions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no session {session!r}")
        if session in self.cancelled:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"session {session!r} is cancelled")
        known = [task.id for task in tasks if task.id in self.tasks]
        if known and all(_same(self.tasks.get(task.id), task) for task in tasks):
            return
        if known:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"task ids already taken: {known[:10]}")
        for task in tasks:
            self.tasks[task.id] = task
            self.results.update(dict.fromkeys((session, key) for key in task.outputs))
        if self.echo:
            async with self._changed:
                for task in tasks:
                    task.status = task_status_pb2.TASK_STATUS_COMPLETED
                    data = task.payload if task.payload is not None else task.sha256.encode()
                    self.results.update(dict.fromkeys(((session, key) for key in task.outputs), data))
                self._changed.notify_all()

    # ------------------------------------------------------------------ tasks

    def _matching(self, wanted: submitter_service_pb2.TaskFilter) -> list[FakeTask]:
        if wanted.WhichOneof("ids") == "session":
            return [task for task in self.tasks.values() if task.session in wanted.session.ids]
        return [self.tasks[task_id] for task_id in wanted.task.ids if task_id in self.tasks]

    async def ListTasks(self, request: submitter_service_pb2.TaskFilter, context: Any) -> objects_pb2.TaskIdList:
        await self._begin("ListTasks", context)
        return objects_pb2.TaskIdList(task_ids=[task.id for task in self._matching(request)])

    async def ListTaskIds(self, request: results_pb2.ListTaskIdsRequest, context: Any) -> None:  # type: ignore[override]
        await self._begin("ListTaskIds", context)
        for task in self.tasks.values():
            if task.session == request.session_id:
                await context.write(results_pb2.ListTaskIdsReply(task_ids=[task.id]))

    def _count(self, wanted: submitter_service_pb2.TaskFilter) -> objects_pb2.Count:
        counts = Counter(task.status for task in self._matching(wanted))
        return objects_pb2.Count(
            values=[objects_pb2.StatusCount(status=status, count=count) for status, count in counts.items()]
        )

    async def CountTasks(self, request: submitter_service_pb2.TaskFilter, context: Any) -> objects_pb2.Count:
        await self._begin("CountTasks", context)
        return self._count(request)

    async def WaitForCompletion(self, request: submitter_service_pb2.WaitRequest, context: Any) -> objects_pb2.Count:
        await self._begin("WaitForCompletion", context)
        async with self._changed:
            await self._changed.wait_for(lambda: all(one.status in FINAL for one in self._matching(request.filter)))
        return self._count(request.filter)

    async def CancelTasks(self, request: submitter_service_pb2.TaskFilter, context: Any) -> objects_pb2.Empty:
        await self._begin("CancelTasks", context)
        await self._cancel(self._matching(request))
        return objects_pb2.Empty()

    async def _cancel(self, tasks: list[FakeTask]) -> None:
        async with self._changed:
            for task in tasks:
                if task.status not in FINAL:
                    task.status = task_status_pb2.TASK_STATUS_CANCELED
                    why = objects_pb2.Error(task_status=task.status, detail="cancelled by a user")
                    error = objects_pb2.TaskError(task_id=task.id, errors=[why])
                    self.results.update(dict.fromkeys(((task.session, key) for key in task.outputs), error))
            self._changed.notify_all()

    async def GetTaskStatus(
        self, request: submitter_service_pb2.GetTaskStatusRequest, context: Any
    ) -> submitter_service_pb2.GetTaskStatusReply:
        await self._begin("GetTaskStatus", context)
        reply = submitter_service_pb2.GetTaskStatusReply()
        for task_id in request.task_ids:
            if task_id in self.tasks:
                reply.id_statuses.add(task_id=task_id, status=self.tasks[task_id].status)
        return reply

    async def TryGetTaskOutput(self, request: objects_pb2.ResultRequest, context: Any) -> objects_pb2.Output:
        """Not called by the client."""
        raise NotImplementedError

    # ------------------------------------------------------------------ results

    async def GetResultStatus(
        self, request: submitter_service_pb2.GetResultStatusRequest, context: Any
    ) -> submitter_service_pb2.GetResultStatusReply:
        await self._begin("GetResultStatus", context)
        reply = submitter_service_pb2.GetResultStatusReply()
        for key in request.result_ids:
            if (request.session_id, key) in self.results:
                status = _finished(key, self.results[request.session_id, key]).status
                reply.id_statuses.add(result_id=key, status=status or result_status_pb2.RESULT_STATUS_CREATED)
        return reply

    async def WaitForAvailability(
        self, request: objects_pb2.ResultRequest, context: Any
    ) -> submitter_service_pb2.AvailabilityReply:
        await self._begin("WaitForAvailability", context)
        name = request.session, request.key
        if name not in self.results:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no result {request.key!r}")
        async with self._changed:
            await self._changed.wait_for(lambda: self.results[name] is not None)
        final = self.results[name]
        if isinstance(final, objects_pb2.TaskError):
            return submitter_service_pb2.AvailabilityReply(error=final)
        return submitter_service_pb2.AvailabilityReply(ok=objects_pb2.Empty())

    async def TryGetResultStream(
        self, request: objects_pb2.ResultRequest, context: Any
    ) -> AsyncIterator[submitter_service_pb2.ResultReply]:
        await self._begin("TryGetResultStream", context)
        final = self.results.get((request.session, request.key))
        if final is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no result {request.key!r}")
        if isinstance(final, objects_pb2.TaskError):
            yield submitter_service_pb2.ResultReply(error=final)
            return
        assert final is not None
        cut = self.faults.cut("TryGetResultStream")
        async with self._sending("TryGetResultStream"):
            for number, chunk in enumerate(chunks(final, CHUNK_BYTES)):
                if number == cut:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")
                yield submitter_service_pb2.ResultReply(result=objects_pb2.DataChunk(data=chunk))
            yield submitter_service_pb2.ResultReply(result=objects_pb2.DataChunk(data_complete=True))

    async def Read(self, request: results_pb2.ReadRequest, context: Any) -> AsyncIterator[results_pb2.ReadReply]:
        await self._begin("Read", context)
        if not self.reads:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        self.read.append((list(request.keys), request.offset))
        cut, end, sent, offset = self.faults.cut("Read"), self.faults.end("Read"), 0, request.offset
        async with self._sending("Read"):
            for key in request.keys:
                final = self.results.get((request.session_id, key))
                if final is None:
                    await context.abort(grpc.StatusCode.NOT_FOUND, f"no result {key!r}")
                for reply in _replies(final, offset):
                    if sent == cut:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")
                    if sent == end:
                        return
                    yield reply
                    sent += 1
                offset = 0
        await self._end("Read", context)

    async def Follow(self, request_iterator: Any, context: Any) -> AsyncIterator[results_pb2.FollowReply]:
        await self._begin("Follow", context)
        first = await anext(aiter(request_iterator))
        session, without_data = first.session_id, first.without_data
        if session not in self.sessions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no session {session!r}")
        wanted = dict.fromkeys(first.keys)
        open_ended = True
        async with self._changed:
            self.asked.append(list(first.keys))
            self._changed.notify_all()

        async def read() -> None:
            nonlocal open_ended
            async for request in request_iterator:
                async with self._changed:
                    self.asked.append(list(request.keys))
                    wanted.update(dict.fromkeys(request.keys))
                    self._changed.notify_all()
            async with self._changed:
                open_ended = False
                self._changed.notify_all()

        def final() -> list[str]:
            return [key for key in wanted if self.results.get((session, key), b"") is not None]

        cut = self.faults.cut("Follow")
        if cut == self.END:
            return
        reading = asyncio.ensure_future(read())
        try:
            while wanted or open_ended:
                async with self._changed:
                    await self._changed.wait_for(lambda: final() or not (wanted or open_ended))
                for start in range(0, len(ready := final()), self.push_size):
                    if cut == 0:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")
                    cut -= 1
                    reply = results_pb2.FollowReply()
                    for key in ready[start : start + self.push_size]:
                        del wanted[key]
                        finished = _finished(key, self.results.get((session, key)))
                        if without_data and finished.HasField("data"):
                            finished.size = len(finished.data)
                        if self.directory is not None and finished.HasField("size"):
                            self.lay(session, key)
                            finished.object.CopyFrom(self._stored[session, key])
                            reply.objects.CopyFrom(self.directory)
                        reply.finished.append(finished)
                    yield reply
        finally:
            reading.cancel()
            async with self._changed:
                self.streams_ended += 1
                self._changed.notify_all()


def _same(old: FakeTask | None, new: FakeTask) -> bool:
    return old is not None and (old.session, old.outputs, old.dependencies, old.options, old.sha256) == (
        new.session,
        new.outputs,
        new.dependencies,
        new.options,
        new.sha256,
    )


def _finished(key: str, state: bytes | objects_pb2.TaskError | None) -> results_pb2.FinishedResult:
    if state is None:
        return results_pb2.FinishedResult(key=key)
    if isinstance(state, objects_pb2.TaskError):
        return results_pb2.FinishedResult(key=key, status=result_status_pb2.RESULT_STATUS_ABORTED, error=state)
    completed = result_status_pb2.RESULT_STATUS_COMPLETED
    if len(state) > PUSHED_BYTES:
        return results_pb2.FinishedResult(key=key, status=completed, size=len(state))
    return results_pb2.FinishedResult(key=key, status=completed, data=state)


def _replies(final: bytes | objects_pb2.TaskError | None, offset: int) -> Iterator[results_pb2.ReadReply]:
    """What Read says of one result."""
    if isinstance(final, objects_pb2.TaskError):
        yield results_pb2.ReadReply(error=final)
        return
    assert final is not None
    *pieces, last = chunks(final[offset:], CHUNK_BYTES)
    for piece in pieces:
        yield results_pb2.ReadReply(data=piece)
    yield results_pb2.ReadReply(data=last, complete=True)


def failure(task_id: str, *reasons: str) -> objects_pb2.TaskError:
    """A TaskError with one failed attempt for each reason."""
    errors = [objects_pb2.Error(task_status=task_status_pb2.TASK_STATUS_ERROR, detail=reason) for reason in reasons]
    return objects_pb2.TaskError(task_id=task_id, errors=errors)


@asynccontextmanager
async def serving_alike(cluster: FakeCluster) -> AsyncIterator[str]:
    """Another replica of the same cluster; its address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    submitter_service_pb2_grpc.add_SubmitterServicer_to_server(cluster, server)
    results_pb2_grpc.add_ResultsServicer_to_server(cluster, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)
