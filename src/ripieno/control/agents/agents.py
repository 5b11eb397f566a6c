"""The Agent service: the agents' streams, from the first message of each to its last."""

import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import grpc
import grpc.aio
import structlog

from ripieno.config import ControlSettings
from ripieno.control.agents.agent_data import AgentData
from ripieno.control.agents.agent_link import AgentLink
from ripieno.control.agents.connected import Connected
from ripieno.control.agents.dispatcher import Dispatcher
from ripieno.control.agents.reports import Reports
from ripieno.control.calls.streams import both_ways
from ripieno.control.waiting.notices import Notices
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.options import DEFAULT_PARTITION
from ripieno.domain.outcomes import Failed, Failure, Outcome
from ripieno.store.cluster.agents import (
    ENDED,
    check_held,
    end_agent,
    held_by,
    held_by_ended,
    register_agent,
    resize_agent,
)
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.store.sessions.changes import Changes
from ripieno.wire.outcomes import directory_to_wire, ticket_from_wire
from ripieno.wire.protos.v1 import agent_pb2

_log = structlog.get_logger(__name__)

#: The highest number of slots that the store can hold for an agent.
_MOST_SLOTS = 2**31 - 1
#: The most partitions of one agent: each is looked at every two seconds.
_MOST_PARTITIONS = 1_000

#: The most attempts of an ended agent that are rescued in one commit.
_RESCUED_AT_ONCE = 500

Context = grpc.aio.ServicerContext[Any, Any]


class Agents(AgentData):
    """Implements the Agent service; its calls about data are those of ``AgentData``."""

    def __init__(
        self,
        settings: ControlSettings,
        database: Database,
        objects: ObjectStore,
        dispatcher: Dispatcher,
        connected: Connected,
        reports: Reports,
        notices: Notices,
        replica: Callable[[], int] = lambda: 0,
    ) -> None:
        """Create the service. ``replica`` returns the number by which the store knows this replica (``Liveness.replica``)."""
        super().__init__(database, objects)
        self._settings = settings
        self._database = database
        self._objects = objects
        self._dispatcher = dispatcher
        self._connected = connected
        self._reports = reports
        self._notices = notices
        self._replica = replica

    # The stubs know generators only; writing to the context is the other documented way.
    async def Connect(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Serve the stream of one agent: envelopes in both directions until either side ends it."""
        first = await context.read()
        if not isinstance(first, agent_pb2.AgentMessage) or not first.HasField("hello"):
            raise InvalidRequestError("hello", "is missing: the first message of an agent introduces it")
        link = await self._welcome(first.hello)
        self._dispatcher.connect(link)
        _log.info("agent connected", agent=link.name, number=link.agent_no)
        try:
            await both_ways(self._receive_all(link, first, context), _write(link, context), link.close)
        finally:
            self._dispatcher.disconnect(link)
            _log.info("agent disconnected", agent=link.name, number=link.agent_no)
            if unsent := link.unsent():
                self._reports.release(unsent)

    async def _welcome(self, hello: agent_pb2.Hello) -> AgentLink:
        _check_hello(hello)
        if hello.predecessor:
            await self._end_predecessor(hello)
        epoch = hello.connection
        registered_at = time.monotonic()
        number = await register_agent(
            self._database,
            UUID(bytes=hello.agent_id),
            name=hello.name,
            slots=hello.slots,
            partitions=list(hello.partitions),
            version=hello.version,
            lease_s=self._settings.lease_s,
            epoch=epoch,
            replica=self._replica(),
        )
        # The agent may have reconnected before we noticed that its former connection was gone.
        self._connected.void({number: epoch})
        self._notices.publish(Changes(connected={number: epoch}))
        link = AgentLink(number, hello.name, hello.partitions, epoch)
        link.renewed_at = registered_at
        link.welcome(self._introduction())
        held = [ticket_from_wire(ticket) for ticket in hello.held]
        link.hold((ticket.claim, 0) for ticket in held)
        lost, cancelled = await check_held(self._database, number, held)
        link.lose(lost)
        link.cancel(cancelled)
        # Attempts that the store says the agent holds, but that it has never seen, are released.
        unseen = set(await held_by(self._database, number, epoch)).difference(held)
        if unseen:
            self._reports.release(list(unseen))
        return link

    async def _end_predecessor(self, hello: agent_pb2.Hello) -> None:
        """End the agent that this one replaces, on every replica, and rescue its attempts without awaiting its lease.

        The id of an agent is known to that agent and to whoever started it alone: 16 random bytes that no reply shows.

        Raises:
            InvalidRequestError: if the predecessor is no agent id, or is the agent itself.
        """
        if len(hello.predecessor) != 16:
            raise InvalidRequestError("hello.predecessor", f"has {len(hello.predecessor)} bytes instead of 16")
        if hello.predecessor == hello.agent_id:
            raise InvalidRequestError("hello.predecessor", "is the agent itself")
        number = await end_agent(self._database, UUID(bytes=hello.predecessor))
        if number is not None:
            self._connected.void({number: ENDED})
            self._notices.publish(Changes(connected={number: ENDED}))
            # The rescue runs beside the welcome, so that a slow database does not keep the new agent waiting for it.
            self._reports.spawn(self._rescue_from(number))

    async def _rescue_from(self, ended: int) -> None:
        """Fail the attempts of an agent whose process has ended. If this fails, they are rescued when its lease runs out."""
        while held := await held_by_ended(self._database, ended, _RESCUED_AT_ONCE):
            _log.warning("rescuing attempts of an agent whose process has ended", agent=held[0][1], attempts=len(held))
            await self._reports.commit(
                [
                    Outcome(ticket, Failed(Failure.ATTEMPT, f"agent {name!r} was lost: its process ended"))
                    for ticket, name in held
                ]
            )

    def _introduction(self) -> agent_pb2.Welcome:
        directory = self._objects.proven
        return agent_pb2.Welcome(
            lease_s=self._settings.lease_s,
            data_chunk_max_size=self._settings.data_chunk_max_size,
            inline_limit_bytes=self._settings.inline_limit_bytes,
            objects=None if directory is None else directory_to_wire(directory),
            sub_tasks_per_attempt=self._settings.limits.sub_tasks_per_attempt,
            options_bytes=self._settings.limits.options_bytes,
        )

    async def _receive_all(self, link: AgentLink, first: agent_pb2.AgentMessage, context: Context) -> None:
        message: object = first
        while isinstance(message, agent_pb2.AgentMessage):
            await self._receive(link, message)
            # Each message costs memory until it is written and answered: reading waits while that is too much.
            await link.readable()
            await self._reports.room()
            message = await context.read()
        link.close()

    async def _receive(self, link: AgentLink, message: agent_pb2.AgentMessage) -> None:
        if message.draining or message.credit_revoked:
            link.revoke()
        if message.outcomes_no:
            self._reports.ended(link, message)
        if message.outputs:
            self._reports.printed(link, message.outputs)
        if message.progress:
            self._reports.progressed(link, message.progress)
        if message.HasField("slots"):
            slots = min(message.slots, _MOST_SLOTS)
            self._reports.spawn(resize_agent(self._database, link.agent_no, link.epoch, slots))
        if message.started:
            self._reports.started(message.started)
        if message.released:
            link.drop(ticket.claim for ticket in message.released)
            # Release before the message's credit counts: the tasks given back may be the most urgent ones.
            await self._reports.release_now([ticket_from_wire(ticket) for ticket in message.released])
        if message.interrupting:
            link.confirm(ticket.claim for ticket in message.interrupting)
            self._reports.interrupting([ticket_from_wire(ticket) for ticket in message.interrupting])
        if message.credit and not message.draining:
            link.grant(message.credit)
            self._dispatcher.credit_granted()


def _check_hello(hello: agent_pb2.Hello) -> None:
    """Check the fields of an agent's first message.

    Raises:
        InvalidRequestError: if a field is invalid; the error names the field and its value.
    """
    if len(hello.agent_id) != 16:
        raise InvalidRequestError("hello.agent_id", f"has {len(hello.agent_id)} bytes instead of 16")
    for field, text in (("name", hello.name), ("version", hello.version)):
        if text:
            check_identifier(f"hello.{field}", text)
    if hello.slots > _MOST_SLOTS:
        raise InvalidRequestError("hello.slots", f"is {hello.slots}; an agent has at most {_MOST_SLOTS}")
    if len(hello.partitions) > _MOST_PARTITIONS:
        raise InvalidRequestError(
            "hello.partitions",
            f"names {len(hello.partitions):,}, and an agent serves at most {_MOST_PARTITIONS:,}; start several agents",
        )
    for partition in hello.partitions:
        if partition != DEFAULT_PARTITION:
            check_identifier("hello.partitions", partition)
    if hello.connection >= ENDED:
        raise InvalidRequestError("hello.connection", f"is {hello.connection}; connections are counted from 1")


async def _write(link: AgentLink, context: Context) -> None:
    write: Callable[[agent_pb2.ControlMessage], Awaitable[None]] = context.write
    while await link.has_more():
        await write(await link.next_message())
