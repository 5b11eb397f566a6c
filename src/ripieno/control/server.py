"""One replica of the control plane: builds its parts, serves, and drains."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ripieno.background import PASSING, Health, Setback, persist
from ripieno.config import ControlSettings
from ripieno.control.agents.agents import Agents
from ripieno.control.agents.connected import Connected
from ripieno.control.agents.dispatcher import Dispatcher
from ripieno.control.agents.liveness import Liveness
from ripieno.control.agents.reminders import Reminders
from ripieno.control.agents.reports import Reports
from ripieno.control.calls.admission import Admission
from ripieno.control.calls.arrivals import Arrivals
from ripieno.control.calls.errors import ErrorInterceptor
from ripieno.control.calls.limits import ControlLimits, Meters
from ripieno.control.calls.questions import Questions
from ripieno.control.calls.quotas import Quotas
from ripieno.control.events.tail import Tail
from ripieno.control.readiness import Readiness
from ripieno.control.results.client_results import ClientResultsParts
from ripieno.control.results.inputs import Inputs
from ripieno.control.results.lookups import ResultLookups
from ripieno.control.results.outputs import Outputs
from ripieno.control.results.progress import ProgressReports
from ripieno.control.results.room import REPLICA_BYTES, Room
from ripieno.control.services.agents import Agents as AgentsService
from ripieno.control.services.events import Events
from ripieno.control.services.partitions import Partitions
from ripieno.control.services.results import Results
from ripieno.control.services.sessions import Sessions as SessionsService
from ripieno.control.services.tasks import Tasks
from ripieno.control.submitter import Submitter
from ripieno.control.submitting.submissions import Submissions
from ripieno.control.upkeep.background import Background
from ripieno.control.upkeep.cancellation import Cancellation
from ripieno.control.upkeep.cutter import Cutter
from ripieno.control.upkeep.lives import Lives
from ripieno.control.upkeep.retention import Retention
from ripieno.control.upkeep.retries import Retries
from ripieno.control.upkeep.timers import Timers
from ripieno.control.upkeep.upkeep import Upkeep
from ripieno.control.waiting.fresh_keys import FreshKeys
from ripieno.control.waiting.notices import Notices
from ripieno.control.waiting.waits import Waits
from ripieno.control.waiting.watcher import Watcher
from ripieno.control.waiting_room import waiting_room
from ripieno.domain.addresses import TcpAddress, parse_listen_address
from ripieno.domain.errors import InvalidRequestError, InvariantError
from ripieno.memory import Memory
from ripieno.store.attempts.claim import Claims
from ripieno.store.attempts.commit import Committer
from ripieno.store.changelog.log import ChangeLog
from ripieno.store.cluster.cluster import agree_on_objects
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.cluster.signals import Signals
from ripieno.store.database.database import Database
from ripieno.store.reading.lists import Lists
from ripieno.store.sessions.sessions import Sessions
from ripieno.wire import pool
from ripieno.wire.channels import target_of
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    agents_pb2,
    agents_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    partitions_pb2,
    partitions_pb2_grpc,
    results_pb2,
    results_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)

_log = structlog.get_logger(__name__)

T = TypeVar("T")

#: gRPC itself refuses messages longer than the larger of these: ``_TOLD_UP_TO`` times ``bytes_per_call``, and
#: ``_LARGEST_REPORT_BYTES``, which leaves room for what agents report. Clients' messages that are shorter than that
#: but exceed ``bytes_per_call`` are refused by ``Admission``, whose errors name the limit and the way out (a single
#: task, which cannot be cut, is let pass).
_TOLD_UP_TO = 2
_LARGEST_REPORT_BYTES = 32 * 1024 * 1024

_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", -1),
    # gRPC reads this many bytes ahead of a call that waits for its turn. Its own estimate (bdp_probe) grows to many
    # MiB for each call, including calls that nobody reads yet.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 256 * 1024),
    # Keepalive pings detect a peer that vanished without closing its connection within ten seconds.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Peers send keepalive pings of their own; however often they do, they are not punished for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
]


class Part(Protocol):
    """A background part of a replica, kept running by ``_keep_working``."""

    async def run(self) -> None:
        """Work until cancelled."""


async def run_control(settings: ControlSettings, *, stop: asyncio.Event, on_ready: Callable[[str], None]) -> None:
    """Run one replica until ``stop`` is set, then drain and return.

    If the database cannot be reached yet, or takes no writes, the replica waits for it.

    Args:
        stop: Set this event to end the replica.
        on_ready: Called once the replica serves, with the ``HOST:PORT`` at which this machine reaches it.

    Raises:
        InvalidRequestError: if a setting is wrong, or the database refuses us; the error says which, and the way out.
    """
    async with AsyncExitStack() as stack:
        opened: tuple[Database, ObjectStore] | None
        try:
            opened = await _open(stack, settings)
        except PASSING:  # ``persist`` logs the fault if the next try meets it, too
            async with waiting_room(settings.listen) as port:
                opened = await _unless(stop, persist("opening the database", lambda: _open(stack, settings)))
            if port is not None:
                address = parse_listen_address("listen", settings.listen)
                settings = replace(settings, listen=str(TcpAddress(address.host, port)))
        if opened is not None:
            await Replica(settings, *opened).run(stop, on_ready)


async def _open(stack: AsyncExitStack, settings: ControlSettings) -> tuple[Database, ObjectStore]:
    async with AsyncExitStack() as attempt:
        name = f"ripieno {settings.name}"
        database = await attempt.enter_async_context(
            Database.open(settings.database, pool_size=settings.pool_size, name=name)
        )
        objects = ObjectStore(database, await agree_on_objects(database, settings.objects))
        stack.push_async_exit(attempt.pop_all())
        return database, objects


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the value of ``work``, or None if ``stop`` was set before ``work`` was done."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def _keep_working(part: Part, health: Health) -> None:
    """Run a part until cancelled. Parts outlive their own faults; one that a bug ends is reported and restarted."""
    name = type(part).__name__.lower()
    setback = Setback(name, health)
    while True:
        try:
            await part.run()
            raise InvariantError("it has ended by itself")
        except Exception as error:  # noqa: BLE001 - no part may end the replica
            pause_s = setback.note(error)
            await asyncio.sleep(pause_s)
            setback.over()


class Replica:
    """The parts of one replica, and the wiring of notices between them.

    Attributes:
        health: Which of the parts are at fault right now.
    """

    def __init__(self, settings: ControlSettings, database: Database, objects: ObjectStore) -> None:
        self._settings = settings
        self._objects = objects
        self.health = health = Health()
        limits = ControlLimits(settings.limits)
        arrivals = Arrivals(limits.submission_memory_bytes)
        waited = Meters(limits.waited_per_client)
        questions = Questions()
        self._admission = Admission(limits, arrivals, waited, questions)
        options = limits.options_per_session
        sessions = Sessions(database, options.value, lambda: options.refused(f"{options.value + 1:,}"))
        quotas = Quotas(limits, database)
        notices = Notices(Signals(database, settings.name))
        fresh = FreshKeys()
        watcher = Watcher(database, settings.inline_limit_bytes, fresh)
        reports = Reports(database, Committer(database, sessions), notices, quotas, health)
        self._dispatcher = dispatcher = Dispatcher(
            Claims(database), sessions, reports.release_now, health, lease_s=settings.lease_s
        )
        submissions = Submissions(settings, database, sessions, notices, dispatcher, limits, arrivals, quotas, fresh)
        liveness = Liveness(database, dispatcher, reports, settings.lease_s, health)
        connected = Connected(database, dispatcher, reports)
        self._agents = Agents(
            settings, database, objects, dispatcher, connected, reports, notices, lambda: liveness.replica
        )
        upkeep = Upkeep(settings, database, objects, connected.reconcile, health)
        database.on_new_incarnation += [dispatcher.disconnect_all, watcher.forget, fresh.clear]
        notices.subscribe(local=fresh.changed_here, remote=fresh.changed_elsewhere)  # before those who look
        notices.subscribe(local=watcher.changed_here, remote=watcher.changed_elsewhere)
        notices.subscribe(local=dispatcher.changed_here, remote=dispatcher.changed_elsewhere)
        notices.subscribe(local=upkeep.changed_here)
        notices.subscribe(local=connected.cancel_here, remote=connected.cancel_elsewhere)
        notices.subscribe(local=connected.follow_here, remote=connected.follow_elsewhere)
        notices.subscribe(remote=connected.connected_elsewhere)
        self._watcher = watcher
        self._parts: list[Part] = [notices, watcher, reports, submissions, dispatcher, liveness, upkeep, Memory(health)]
        downloads = Room(REPLICA_BYTES)
        client_results = ClientResultsParts(settings, database, sessions, objects, notices, quotas, limits)
        lists = Lists(database, settings.list_timeout_s)
        self._results = Results(
            lists, settings, database, sessions, objects, watcher, downloads, waited, client_results
        )
        background = Background(notices)
        cancellation = Cancellation(database, sessions, background, watcher)
        lives = Lives(database, sessions, background, cancellation, health)
        self._lists = (
            SessionsService(database, sessions, lists, lives),
            Partitions(lists),
            AgentsService(lists),
        )
        lookups = ResultLookups(database)
        cutter = Cutter(database, notices, health)
        notices.subscribe(local=cutter.changed_here)
        timers = Timers(database, notices, health)
        notices.subscribe(local=timers.changed_here, remote=timers.changed_elsewhere)
        log = ChangeLog(database)
        tail = Tail(log, health)
        notices.subscribe(local=tail.wake, remote=tail.wake)
        self._tasks = Tasks(
            database,
            lists,
            watcher,
            Outputs(database, notices),
            ProgressReports(database, notices),
            Retries(limits, database, sessions, lists, background),
            Inputs(database, objects, downloads),
            settings,
            objects,
            submissions,
        )
        self._events = Events(database, sessions, log, tail, watcher)
        retention = Retention(settings, database, background)
        self._parts += [
            lookups,
            background,
            lives,
            retention,
            cutter,
            timers,
            Reminders(database, dispatcher, health),
            tail,
        ]
        self._submitter = Submitter(
            settings,
            database,
            sessions,
            objects,
            submissions,
            cancellation,
            Waits(database, watcher, questions),
            lookups,
            downloads,
        )
        notices.subscribe(local=self._submitter.changed_here, remote=self._submitter.changed_elsewhere)

    async def run(self, stop: asyncio.Event, on_ready: Callable[[str], None]) -> None:
        """Serve until ``stop`` is set, then drain."""
        limits = self._settings.limits
        largest = max(_LARGEST_REPORT_BYTES, _TOLD_UP_TO * limits.bytes_per_call)
        server = grpc.aio.server(
            interceptors=[ErrorInterceptor(), self._admission],
            options=[*_OPTIONS, ("grpc.max_receive_message_length", largest)],
        )
        standing = self._register(server)
        address = self._bind(server)
        try:
            self._objects.prove(address)
        except OSError as error:  # for example a full disk: small data, which lie in the database, need no proof
            _log.warning("the directory of objects takes no proof; others cannot use it", error=str(error))
        try:
            await self._serve(server, standing, address, stop, on_ready)
        finally:
            await server.stop(None)  # also after a cancellation: a server left running keeps its event loop from ending

    async def _serve(
        self,
        server: grpc.aio.Server,
        standing: Readiness,
        address: str,
        stop: asyncio.Event,
        on_ready: Callable[[str], None],
    ) -> None:
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(_keep_working(part, self.health)) for part in [*self._parts, standing]]
            await asyncio.sleep(0)  # every part has begun
            await server.start()
            on_ready(address)
            _log.info("control plane ready", address=address)
            await stop.wait()
            _log.info("draining")
            await standing.servicer.enter_graceful_shutdown()
            self._watcher.leave()
            for link in self._dispatcher.links.values():
                link.say_goodbye()
            await server.stop(self._settings.drain_s)
            for task in working:
                task.cancel()

    def _register(self, server: grpc.aio.Server) -> Readiness:
        submitter_service_pb2_grpc.add_SubmitterServicer_to_server(self._submitter, server)
        results_pb2_grpc.add_ResultsServicer_to_server(self._results, server)
        events_pb2_grpc.add_EventsServicer_to_server(self._events, server)
        sessions, partitions, agents = self._lists
        sessions_pb2_grpc.add_SessionsServicer_to_server(sessions, server)
        tasks_pb2_grpc.add_TasksServicer_to_server(self._tasks, server)
        partitions_pb2_grpc.add_PartitionsServicer_to_server(partitions, server)
        agents_pb2_grpc.add_AgentsServicer_to_server(agents, server)
        agent_pb2_grpc.add_AgentServicer_to_server(self._agents, server)
        names = [
            file.DESCRIPTOR.services_by_name[service].full_name
            for file, service in (
                (submitter_service_pb2, "Submitter"),
                (results_pb2, "Results"),
                (events_pb2, "Events"),
                (sessions_pb2, "Sessions"),
                (tasks_pb2, "Tasks"),
                (partitions_pb2, "Partitions"),
                (agents_pb2, "Agents"),
                (agent_pb2, "Agent"),
            )
        ]
        standing = Readiness(self.health, names)
        health_pb2_grpc.add_HealthServicer_to_server(standing.servicer, server)
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server, pool=pool.Default())
        return standing

    def _bind(self, server: grpc.aio.Server) -> str:
        address = parse_listen_address("listen", self._settings.listen)
        try:
            port = server.add_insecure_port(target_of(address))
        except RuntimeError as error:
            raise InvalidRequestError("listen", f"{address} cannot be served (is it in use?): {error}") from error
        return str(TcpAddress(address.host, port).reachable)
