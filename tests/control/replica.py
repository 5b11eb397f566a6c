"""A replica that serves, and a bare agent that says only what its test wants said."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio

from ripieno.config import ControlSettings
from ripieno.control.agents.reports import Reports
from ripieno.control.server import Replica
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.wire.protos.v1 import agent_pb2, agent_pb2_grpc
from store.world import World

_PATIENCE_S = 20.0
#: Replicas of one process have names of their own, or they would not hear each other.
_numbers = itertools.count(1)


async def until(true: Callable[[], bool]) -> None:
    """Wait for a state of which nobody tells."""
    async with asyncio.timeout(_PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Served:
    """A replica at an address, and the world in its database."""

    def __init__(self, address: str, replica: Replica, world: World, objects: Path, stop: asyncio.Event) -> None:
        self.address = address
        self.objects = objects
        self.replica = replica
        self.world = world
        self.stop = stop

    @property
    def reports(self) -> Reports:
        """What writes its agents' reports."""
        return next(part for part in self.replica._parts if isinstance(part, Reports))

    def connect(self) -> grpc.aio.Channel:
        """A connection of its own."""
        return grpc.aio.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        )


@asynccontextmanager
async def serving(database_url: str, objects: Path, **settings: Any) -> AsyncIterator[Served]:
    """Start a replica; end it at once at the end."""
    objects.mkdir(exist_ok=True)
    chosen = ControlSettings(
        database_url, name=f"replica {next(_numbers)}", listen="127.0.0.1:0", **{"drain_s": 0, **settings}
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with Database.open(database_url) as database, asyncio.TaskGroup() as group:
        replica = Replica(chosen, database, ObjectStore(database, str(objects)))
        group.create_task(replica.run(stop, ready.set_result))
        try:
            yield Served(await ready, replica, World(database), objects, stop)
        finally:
            stop.set()


class BareAgent:
    """An agent's stream. What the replica says is gathered and nothing is answered unasked."""

    def __init__(self, channel: grpc.aio.Channel, agent_id: bytes = b"", connection: int = 1) -> None:
        self.agent_id = agent_id or uuid.uuid4().bytes
        self._connection = connection
        self.call: Any = agent_pb2_grpc.AgentStub(channel).Connect()
        self.said: list[agent_pb2.ControlMessage] = []
        self._heard = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def hello(self, credit: int = 0, predecessor: bytes = b"") -> None:
        """Introduce itself, and read from here on."""
        hello = agent_pb2.Hello(
            agent_id=self.agent_id, name="bare", slots=1, connection=self._connection, predecessor=predecessor
        )
        await self.say(hello=hello, credit=credit)
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda: bool(self.said))

    async def say(self, **fields: Any) -> None:
        """Send one message."""
        await self.call.write(agent_pb2.AgentMessage(**fields))

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until what was said makes it true."""
        async with asyncio.timeout(_PATIENCE_S):
            while not true():
                self._heard.clear()
                await self._heard.wait()

    @property
    def assigned(self) -> list[agent_pb2.Ticket]:
        """All tickets of plain assignments, in order."""
        return [
            agent_pb2.Ticket(task_no=task_no, session_no=session_no, claim=claim)
            for message in self.said
            for task_no, session_no, claim in zip(
                message.plain.task_nos, message.plain.session_nos, message.plain.claims, strict=True
            )
        ]

    @property
    def cancelled(self) -> list[int]:
        """Claims of all cancellations that were told, in order, repeats included."""
        return [ticket.claim for message in self.said for ticket in message.cancelled]

    async def complete(self, count: int, data_of: Callable[[str], bytes]) -> None:
        """Complete so many tasks of one output each as they are assigned, giving their credit back."""
        taken = number = 0
        done = 0
        while done < count:
            await self.until(partial(self._has_said_more_than, taken))
            for message in self.said[taken:]:
                plain = message.plain
                tasks = len(plain.task_nos)
                if not tasks:
                    continue
                number, done = number + 1, done + tasks
                completions = agent_pb2.Completions(
                    task_nos=plain.task_nos,
                    session_nos=plain.session_nos,
                    claims=plain.claims,
                    started_at_us=[1] * tasks,
                    workers=["w"] * tasks,
                    result_counts=[1] * tasks,
                    keys=plain.expected_output_keys,
                    data=[data_of(key) for key in plain.expected_output_keys],
                )
                await self.say(outcomes_no=number, completions=completions, credit=tasks)
            taken = len(self.said)
        await self.until(lambda: sum(len(message.settled) for message in self.said) == number)

    def _has_said_more_than(self, messages: int) -> bool:
        return len(self.said) > messages

    def leave(self) -> None:
        """Break the stream."""
        self.call.cancel()
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        while isinstance(message := await self.call.read(), agent_pb2.ControlMessage):
            self.said.append(message)
            self._heard.set()
