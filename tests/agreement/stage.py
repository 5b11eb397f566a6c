"""One cluster whose agents serve a lane each, and what tests ask of it."""

import asyncio
import contextlib
import itertools
import shlex
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.cluster import Process, cluster, running
from protocol.deadlines import PATIENCE_S, eventually
from ripieno.client import AsyncClient, AsyncSession, AsyncTask, TaskFailedError, TaskStatus

#: What the agent puts before the detail of a call that failed. A worker of another make says there which status
#: it ended its call with; one of ours always says INTERNAL, so nothing is lost by leaving it out.
_CALL_FAILED = "the worker's call failed: INTERNAL: "

_numbers = itertools.count(1)
_RUN = uuid.uuid4().hex[:8]


@dataclass(frozen=True)
class Lane:
    """How an agent and its workers talk.

    Attributes:
        partition: Which tasks it gets; None for the default ones.
    """

    name: str
    partition: str | None
    single: bool
    handler: str

    @property
    def command(self) -> str:
        """Starts one of its workers."""
        flags = ["--single"] if self.single else []
        return shlex.join([sys.executable, "-m", "ripieno", "worker", *flags, f"agreement.handlers:{self.handler}"])


LANES = (
    Lane("batch", None, single=False, handler="handle"),
    Lane("single", "single", single=True, handler="handle"),
    Lane("batch-async", "batch async", single=False, handler="handle_async"),
    Lane("single-async", "single async", single=True, handler="handle_async"),
)
SLOTS = 2


@dataclass(frozen=True)
class Gate:
    """Where a task is held (the step ``hold``)."""

    path: Path

    async def begun(self) -> None:
        """Wait until the task is held."""
        await eventually(Path(f"{self.path}.begun").exists, f"a task begins to wait for {self.path.name}")

    def open(self) -> None:
        """Let it go on."""
        self.path.touch()


@dataclass(frozen=True)
class Seen:
    """What a client sees of a task that is final, and of one result of it.

    Attributes:
        data: The result's bytes; None if it was aborted.
        owner: The task that was to make it in the end; empty if it exists.
        attempts: Why it was aborted, as the client is told, oldest first; whole details.
    """

    status: TaskStatus
    data: bytes | None = None
    owner: str = ""
    attempts: tuple[tuple[TaskStatus, str], ...] = ()

    @property
    def reasons(self) -> list[str]:
        """The last line of each detail: the exception, where the rest is a traceback."""
        return [detail.splitlines()[-1] for _, detail in self.attempts]


@dataclass(frozen=True)
class Stage:
    """One lane of the running cluster.

    Attributes:
        client: Of the cluster.
        process: The whole cluster.
        folder: For gates and books.
        sessions: Those of the test that runs.
    """

    client: AsyncClient
    lane: Lane
    process: Process
    folder: Path
    sessions: list[AsyncSession] = field(default_factory=list)

    async def session(self, **options: Any) -> AsyncSession:
        """A session whose tasks go to this lane; no retries and 30 s unless told otherwise."""
        defaults = {"max_retries": 0, "max_duration": 30, "partition": self.lane.partition}
        self.sessions.append(await self.client.session(**(defaults | options)))
        return self.sessions[-1]

    async def clear(self) -> None:
        """End what a test that failed half-way has left running: the next one needs the workers."""
        while self.sessions:
            await self.sessions.pop().cancel()

    def gate(self) -> Gate:
        """A new one, closed."""
        return Gate(self.folder / unique("gate"))

    async def seen(self, task: AsyncTask, key: str | None = None) -> Seen:
        """Wait until a task is final and a result of it is (it may be owed to a sub-task); tell what is seen of them."""
        async with asyncio.timeout(2 * PATIENCE_S):
            await task.session.wait(task)
            status = await task.status()
            try:
                return Seen(status, await task.result(key))
            except TaskFailedError as failure:
                attempts = tuple((each.status, each.detail.removeprefix(_CALL_FAILED)) for each in failure.attempts)
                return Seen(status, None, failure.task_id, attempts)

    async def all_seen(self, tasks: Sequence[AsyncTask]) -> list[Seen]:
        """The same for several tasks of one result each."""
        return await asyncio.gather(*(self.seen(task) for task in tasks))


def unique(stem: str) -> str:
    """A name that no other test uses."""
    return f"{stem}-{_RUN}-{next(_numbers)}"


@contextlib.asynccontextmanager
async def running_stages() -> AsyncIterator[list[Stage]]:
    """One cluster: ``up`` with the first lane, an agent beside it for each of the others."""
    folder = Path(tempfile.mkdtemp(prefix="rp-agree-"))
    first, *others = LANES
    try:
        async with contextlib.AsyncExitStack() as stack:
            up = await stack.enter_async_context(cluster(worker=first.command, slots=SLOTS))
            await asyncio.gather(*(stack.enter_async_context(_agent(lane, up.address)) for lane in others))
            client = await stack.enter_async_context(AsyncClient(up.address))
            yield [Stage(client, lane, up, folder) for lane in LANES]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _agent(lane: Lane, control: str) -> contextlib.AbstractAsyncContextManager[Process]:
    assert lane.partition is not None, "the default partition is served by `up`"
    flags = ["--control", control, "--partition", lane.partition, "--slots", str(SLOTS), "--worker", lane.command]
    return running("agent", *flags)
