"""Workers made of stubs: they record all that an agent sends, and misbehave on command."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
import grpc.aio

from protocol.attempt_record import Attempt, ProtocolBreachError
from protocol.conversation import Behaviour, Context, Conversation, echo, unless_cancelled
from protocol.deadlines import PATIENCE_S, eventually
from protocol.stubs import objects_pb2, worker_service_pb2_grpc
from protocol.stubs.worker_service_pb2 import HealthCheckReply

if TYPE_CHECKING:
    Health: TypeAlias = HealthCheckReply.ServingStatus.ValueType
else:
    Health = int  # The type of one status has no name at run time.

SERVING = HealthCheckReply.SERVING
NOT_SERVING = HealthCheckReply.NOT_SERVING


class BareWorker(worker_service_pb2_grpc.WorkerServicer):
    """One worker on a unix socket.

    Attributes:
        address: As an agent takes it.
        health: What HealthCheck answers; None for UNIMPLEMENTED.
        health_checks: The answers given so far.
    """

    def __init__(self, name: str, address: str, workers: "Workers") -> None:
        self.name = name
        self.address = address
        self.health: Health | None = SERVING
        self.health_checks: list[Health | None] = []
        self._workers = workers
        self._server: grpc.aio.Server | None = None
        self._current: Attempt | None = None

    async def start(self) -> None:
        """Listen, also again after ``stop``."""
        # Both directions without a limit: a request of a test must not fail on the worker's own account.
        limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.aio.server(options=limits)
        worker_service_pb2_grpc.add_WorkerServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening and break the call that runs, as a worker that dies does."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(grace=None)

    @property
    def serves(self) -> bool:
        return self._server is not None

    async def HealthCheck(self, request: objects_pb2.Empty, context: Context) -> HealthCheckReply:  # noqa: N802
        self.health_checks.append(self.health)
        if self.health is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this worker knows no HealthCheck")
        return HealthCheckReply(status=self.health)

    # Written in grpc.aio's reader and writer style, which the generated signature does not know.
    async def Process(self, requests: object, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        first = await context.read()
        if first is grpc.aio.EOF:
            await unless_cancelled()
        if first is grpc.aio.EOF or first.compute.WhichOneof("type") != "init_request":
            self._workers.breaches.append(ProtocolBreachError(f"a call began with {first!r}"))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be init_request")
        init = first.compute.init_request
        attempt = Attempt(self.name, init.session_id, init.task_id, time.monotonic())
        if self._current is not None and self._current.running and not self._current.cancelled:
            self._workers.breaches.append(
                ProtocolBreachError(f"{self.name} got {attempt.task_id} while it runs {self._current.task_id}")
            )
        self._current = attempt
        self._workers.attempts.append(attempt)
        attempt.came(first)
        async with Conversation(context, attempt, first) as call:
            await self._run(call)

    async def _run(self, call: Conversation) -> None:
        behaviour = self._workers.behaviour_for(call.attempt)
        try:
            await behaviour(call)
            if call.attempt.said_output:
                await call.finished()
        except asyncio.CancelledError:
            call.attempt.cancelled = True
            raise
        except (AssertionError, TimeoutError) as breach:
            self._workers.breaches.append(breach)
            raise


class Workers:
    """A company of bare workers that share their behaviours and their record.

    Attributes:
        attempts: All that were begun, oldest first.
        breaches: Everything an agent did against part 3 so far; a fixture empties and checks it.
    """

    def __init__(self, size: int) -> None:
        # A short path: a socket's may not be longer than about 100 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="rp-w-"))
        self.attempts: list[Attempt] = []
        self.breaches: list[BaseException] = []
        self._behaviours: dict[str, Behaviour] = {}
        self.all = [BareWorker(f"w{n}", f"unix:{self._directory}/w{n}", self) for n in range(size)]

    @property
    def addresses(self) -> list[str]:
        return [each.address for each in self.all]

    @property
    def size(self) -> int:
        return len(self.all)

    def behave(self, behaviour: Behaviour, *names: str) -> None:
        """Choose the behaviour for attempt ids, task ids or session ids, the first that fits in this order."""
        self._behaviours.update(dict.fromkeys(names, behaviour))

    def behaviour_for(self, attempt: Attempt) -> Behaviour:
        for name in (attempt.task_id, _without_retry(attempt.task_id), attempt.session_id):
            if name in self._behaviours:
                return self._behaviours[name]
        return echo

    def attempts_of(self, task_id: str) -> list[Attempt]:
        """The attempts of one task, oldest first."""
        return [each for each in self.attempts if task_id in (each.task_id, _without_retry(each.task_id))]

    def attempts_in(self, session_id: str) -> list[Attempt]:
        """The attempts of one session, oldest first."""
        return [each for each in self.attempts if each.session_id == session_id]

    async def begun(self, task_id: str, count: int = 1, *, within_s: float = PATIENCE_S) -> Attempt:
        """Wait until a task has begun this many attempts; return the last of them."""
        await eventually(
            lambda: len(self.attempts_of(task_id)) >= count, f"attempt {count} of {task_id} begins", within_s=within_s
        )
        return self.attempts_of(task_id)[count - 1]

    async def ended(self, attempt: Attempt) -> Attempt:
        """Wait until an attempt's call is over."""
        await eventually(lambda: not attempt.running, f"{attempt.task_id} ends")
        return attempt

    def forget(self) -> None:
        """Begin a new record (the behaviours stay: names are unique)."""
        self.attempts.clear()
        self.breaches.clear()

    def remove(self) -> None:
        """Remove the directory of the sockets."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _without_retry(attempt_id: str) -> str:
    task_id, separator, retry = attempt_id.rpartition("###")
    return task_id if separator and retry.isdigit() else attempt_id


@contextlib.asynccontextmanager
async def bare_workers(size: int, *, started: bool = True) -> AsyncIterator[Workers]:
    """Serve ``size`` workers until the block ends."""
    workers = Workers(size)
    try:
        if started:
            for each in workers.all:
                await each.start()
        yield workers
    finally:
        for each in workers.all:
            await each.stop()
        workers.remove()
