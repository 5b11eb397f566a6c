"""A stand-in for a replica of the control plane: hands out assignments, records what agents say."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from ripieno.domain.data import ObjectDirectory
from ripieno.wire.outcomes import directory_to_wire
from ripieno.wire.protos.v1 import agent_pb2, agent_pb2_grpc
from unit.agent.outcomes import outcomes_of

Outcome = agent_pb2.Outcome

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
]


@dataclass
class Task:
    """What the replica hands out."""

    id: str
    outputs: tuple[str, ...] = ("out",)
    dependencies: tuple[str, ...] = ()
    payload: bytes | str = b""  # a string names an object
    retry: int = 0
    max_duration_s: float = 60.0
    options: dict[str, str] = field(default_factory=dict)
    session: int = 1


class Replica(agent_pb2_grpc.AgentServicer):
    """Claims whatever is queued as far as credit goes; settles each message of outcomes."""

    def __init__(self) -> None:
        self.queue: list[Task] = []
        self.results: dict[str, bytes | str] = {}
        self.objects: dict[str, bytes] = {}
        #: Where Welcome says that objects may be written.
        self.directory: ObjectDirectory | None = None
        self.welcoming = asyncio.Event()
        self.welcoming.set()
        #: Names that were given for objects that the agent or its workers write themselves.
        self.staged: list[str] = []
        self.stagings: list[int] = []
        self.staging = asyncio.Event()
        self.staging.set()
        self.port = 0
        self.limits = (84_000, 65_536)
        #: None is told.
        self.sub_tasks_per_attempt = 0
        self.settling = True
        #: What it takes at most; -1: anything.
        self.largest_message_bytes = -1
        #: Streams end right after their Welcome.
        self.ending = False
        self.hellos: list[agent_pb2.Hello] = []
        self.outcomes: dict[str, list[Outcome]] = {}
        self.started: list[str] = []
        self.released: list[str] = []
        self.interrupting: list[str] = []
        #: How far tasks have come, by id, as it was told.
        self.progress: list[tuple[str, float, str]] = []
        self.draining = False
        #: How many slots an agent said that it has, after its Hello.
        self.slots: list[int] = []
        self.credit = 0
        self.revoked = 0
        #: Results in one reply, and a key that spoils a request.
        self.most_fetched = 1_000
        self.refused_key = ""
        self.fetches: list[list[str]] = []
        self.reads: list[str] = []
        self.claims: dict[int, Task] = {}
        self.assigned: list[str] = []
        self.changed = asyncio.Condition()
        self.answering = asyncio.Event()
        self.answering.set()
        self._next_claim = 0
        self._contexts: list[asyncio.Queue[agent_pb2.ControlMessage | None]] = []
        self._server: grpc.aio.Server | None = None

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        options = [
            ("grpc.max_receive_message_length", self.largest_message_bytes),
            # As a real replica: agents ask for signs of life.
            ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
            ("grpc.http2.max_ping_strikes", 0),
            *CHANNEL_OPTIONS[1:],
        ]
        self._server = grpc.aio.server(options=options)
        agent_pb2_grpc.add_AgentServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        for queue in self._contexts:
            queue.put_nowait(None)
        assert self._server is not None
        await self._server.stop(0)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    # ------------------------------------------------------------------ for tests

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(condition)

    async def outcome_of(self, task_id: str, timeout_s: float = 10.0) -> Outcome:
        await self.until(lambda: task_id in self.outcomes, timeout_s)
        return self.outcomes[task_id][-1]

    def submit(self, *tasks: Task) -> None:
        self.queue.extend(tasks)
        self._hand_out()

    def tell(self, message: agent_pb2.ControlMessage) -> None:
        self._contexts[-1].put_nowait(message)

    def ticket_of(self, task_id: str) -> agent_pb2.Ticket:
        claim = next(claim for claim, task in self.claims.items() if task.id == task_id)
        return agent_pb2.Ticket(task_no=claim, session_no=self.claims[claim].session, claim=claim)

    def cancel(self, *task_ids: str) -> None:
        self.tell(agent_pb2.ControlMessage(cancelled=[self.ticket_of(task_id) for task_id in task_ids]))

    def lose(self, *task_ids: str) -> None:
        self.tell(agent_pb2.ControlMessage(lost=[self.ticket_of(task_id) for task_id in task_ids]))

    # ------------------------------------------------------------------ the service

    async def Connect(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[agent_pb2.AgentMessage], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        outgoing: asyncio.Queue[agent_pb2.ControlMessage | None] = asyncio.Queue()
        first = await anext(request_iterator)
        self.hellos.append(first.hello)
        self.credit = 0
        self._contexts.append(outgoing)
        chunk, inline = self.limits
        welcome = agent_pb2.Welcome(
            lease_s=10,
            data_chunk_max_size=chunk,
            inline_limit_bytes=inline,
            sub_tasks_per_attempt=self.sub_tasks_per_attempt,
        )
        if self.directory is not None:
            welcome.objects.CopyFrom(directory_to_wire(self.directory))
        await self.welcoming.wait()
        await context.write(agent_pb2.ControlMessage(welcome=welcome))
        async with self.changed:
            self.changed.notify_all()
        if self.ending:
            self._contexts.remove(outgoing)
            return
        reading = asyncio.create_task(self._read(request_iterator, outgoing))
        try:
            while (message := await outgoing.get()) is not None:
                await context.write(message)
        finally:
            reading.cancel()
            self._contexts.remove(outgoing)

    async def _read(
        self,
        messages: AsyncIterator[agent_pb2.AgentMessage],
        outgoing: asyncio.Queue[agent_pb2.ControlMessage | None],
    ) -> None:
        revocations = 0
        async for message in messages:
            if message.draining or message.credit_revoked:
                self.credit = 0
                self.revoked += message.credit_revoked
                revocations += 1
                outgoing.put_nowait(agent_pb2.ControlMessage(revocations=revocations))
            if not message.draining:
                self.credit += message.credit
            self.draining |= message.draining
            self.slots += [message.slots] if message.HasField("slots") else []
            self.started += self._ids(started.ticket for started in message.started)
            self.released += self._ids(message.released)
            self.queue[:0] = [self.claims[ticket.claim] for ticket in message.released]
            self.interrupting += self._ids(message.interrupting)
            self.progress += [
                (self.claims[each.ticket.claim].id, each.progress.fraction, each.progress.text)
                for each in message.progress
            ]
            for outcome in outcomes_of(message):
                self.outcomes.setdefault(self.claims[outcome.ticket.claim].id, []).append(outcome)
            if message.outcomes_no and self.settling:
                self.tell(agent_pb2.ControlMessage(settled=[message.outcomes_no]))
            self._hand_out()
            async with self.changed:
                self.changed.notify_all()
        outgoing.put_nowait(None)

    def _ids(self, tickets: Iterable[agent_pb2.Ticket]) -> list[str]:
        return [self.claims[ticket.claim].id for ticket in tickets]

    def _hand_out(self) -> None:
        batch, self.queue = self.queue[: self.credit], self.queue[self.credit :]
        if not batch or not self._contexts:
            self.queue = batch + self.queue
            return
        self.credit -= len(batch)
        message = agent_pb2.ControlMessage()
        for task in batch:
            self._assign(message, task)
        for session in {task.session for task in batch}:
            message.sessions.add(session_no=session, id=f"session-{session}")
        self.tell(message)

    def _assign(self, message: agent_pb2.ControlMessage, task: Task) -> None:
        self._next_claim += 1
        claim = self._next_claim
        self.claims[claim] = task
        self.assigned.append(task.id)
        message.options.add(options_no=claim, options=task.options, max_duration_us=int(task.max_duration_s * 1e6))
        if isinstance(task.payload, bytes) and not task.dependencies:
            self._assign_plainly(message.plain, task, claim, task.payload)
            return
        assignment = message.assignments.add(
            task_id=task.id,
            retry=task.retry,
            options_no=claim,
            expected_output_keys=task.outputs,
            data_dependencies=task.dependencies,
        )
        assignment.ticket.task_no = assignment.ticket.claim = claim
        assignment.ticket.session_no = task.session
        self._put_data(assignment.payload, task.payload)

    def _assign_plainly(self, plain: agent_pb2.PlainAssignments, task: Task, claim: int, payload: bytes) -> None:
        plain.task_nos.append(claim)
        plain.session_nos.append(task.session)
        plain.claims.append(claim)
        plain.task_ids.append(task.id)
        plain.retries.append(task.retry)
        plain.options_nos.append(claim)
        plain.payloads.append(payload)
        plain.output_counts.append(len(task.outputs))
        plain.expected_output_keys.extend(task.outputs)

    def _put_data(self, message: agent_pb2.Data, data: bytes | str) -> None:
        if isinstance(data, bytes):
            message.inline = data
        else:
            message.object.name = data
            message.object.size = len(self.objects.get(data, b"?"))

    async def FetchResults(  # noqa: N802
        self, request: agent_pb2.FetchResultsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> agent_pb2.FetchResultsReply:
        self.fetches.append([key.key for key in request.keys])
        async with self.changed:
            self.changed.notify_all()
        await self.answering.wait()
        if any(key.key == self.refused_key for key in request.keys):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"key {self.refused_key!r} is refused")
        reply = agent_pb2.FetchResultsReply()
        for key in request.keys[: self.most_fetched]:
            fetched = reply.fetched.add()
            if key.key in self.results:
                self._put_data(fetched.data, self.results[key.key])
            else:
                fetched.error = f"no result {key.key!r}"
        return reply

    async def ReadObject(  # noqa: N802
        self, request: agent_pb2.ReadObjectRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[agent_pb2.ObjectChunk]:
        self.reads.append(request.name)
        if request.name not in self.objects:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no object {request.name!r}")
        data = self.objects[request.name]
        for start in range(0, len(data), 256 * 1024):
            yield agent_pb2.ObjectChunk(data=data[start : start + 256 * 1024])

    async def StageObjects(  # noqa: N802
        self, request: agent_pb2.StageObjectsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> agent_pb2.StageObjectsReply:
        self.stagings.append(request.count)
        async with self.changed:
            self.changed.notify_all()
        await self.staging.wait()
        names = [f"ab/{self.port}-{number}" for number in range(len(self.staged), len(self.staged) + request.count)]
        self.staged += names
        return agent_pb2.StageObjectsReply(names=names)

    async def WriteObject(  # noqa: N802
        self, request_iterator: AsyncIterator[agent_pb2.ObjectChunk], context: grpc.aio.ServicerContext[Any, Any]
    ) -> agent_pb2.StoredObject:
        data = b"".join([chunk.data async for chunk in request_iterator])
        name = f"object-{len(self.objects)}"
        self.objects[name] = data
        return agent_pb2.StoredObject(name=name, size=len(data), sha256=hashlib.sha256(data).digest())
