"""Jobs: a few tasks each, and what they have to end as."""

import itertools
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from ripieno.client import AsyncClient, AsyncSession, TaskDefinition, TaskFailedError, TaskStatus

#: More than the faults of a day can cost one task.
_RETRIES = 50
#: Longer than any fault lasts and its backlog takes.
_PATIENCE_S = 300.0
_LARGE_BYTES = 300_000


class BrokenPromiseError(Exception):
    """A task did not end as it has to."""


class Place(NamedTuple):
    """Where a job runs.

    Attributes:
        marks: A directory for what flaky tasks leave behind.
    """

    client: AsyncClient
    marks: Path

    async def session(self) -> AsyncSession:
        """A session whose tasks outlive every fault."""
        return await self.client.session(max_retries=_RETRIES, max_duration=120)


Job = Callable[[Place], Awaitable[None]]


async def _ends(session: AsyncSession, expected: dict[TaskStatus, int]) -> None:
    counts = await session.wait(timeout=_PATIENCE_S)
    if counts != expected:
        raise BrokenPromiseError(f"session {session.id}: {counts} instead of {expected}")


async def no_ops(place: Place) -> None:
    """Two hundred tasks that do nothing."""
    session = await place.session()
    tasks = await session.submit_many([b"echo %d" % number for number in range(200)])
    got = Counter([result.data async for result in session.results(tasks, timeout=_PATIENCE_S)])
    if got != Counter(str(number)[::-1].encode() for number in range(200)):
        raise BrokenPromiseError(f"session {session.id}: {sum(got.values())} results, not those of its tasks")
    await _ends(session, {TaskStatus.COMPLETED: 200})


async def sleeps(place: Place) -> None:
    """Twenty tasks that take 5 ms each."""
    session = await place.session()
    tasks = await session.submit_many([b"sleep 0.005"] * 20)
    got = [result.data async for result in session.results(tasks, timeout=_PATIENCE_S)]
    if got != [b"0.005"] * 20:
        raise BrokenPromiseError(f"session {session.id}: {len(got)} results of 20")


async def flaky(place: Place) -> None:
    """Ten tasks that fail the first time."""
    session = await place.session()
    tasks = await session.submit_many([f"flaky {place.marks / uuid.uuid4().hex}".encode() for _ in range(10)])
    async for result in session.results(tasks, timeout=_PATIENCE_S):
        if result.data != b"recovered":
            raise BrokenPromiseError(f"{result.key}: {result.data!r}")
    await _ends(session, {TaskStatus.COMPLETED: 10})


async def hopeless(place: Place) -> None:
    """Ten tasks whose worker says that they cannot be done."""
    session = await place.session()
    tasks = await session.submit_many([b"hopeless because of %d" % number for number in range(10)])
    async for result in session.results(tasks, timeout=_PATIENCE_S):
        if not isinstance(result.error, TaskFailedError) or "because of" not in str(result.error):
            raise BrokenPromiseError(f"{result.key}: {result.error!r}")
    await _ends(session, {TaskStatus.ERROR: 10})


async def diamond(place: Place) -> None:
    """One task, twenty that need it, one that needs them all."""
    session = await place.session()
    name = uuid.uuid4().hex
    middle = [f"{name}/{number}" for number in range(20)]
    last, *_ = await session.submit_many(
        [
            TaskDefinition(b"total 0", [f"{name}/last"], middle),
            *(TaskDefinition(b"total 1", [key], [f"{name}/first"]) for key in middle),
            TaskDefinition(b"total 5", [f"{name}/first"]),
        ]
    )
    if await last.result(timeout=_PATIENCE_S) != b"120":
        raise BrokenPromiseError(f"session {session.id}: the last task added up wrongly")
    await _ends(session, {TaskStatus.COMPLETED: 22})


async def broken_chain(place: Place) -> None:
    """A task that fails, and twenty that need one after the other."""
    session = await place.session()
    name = uuid.uuid4().hex
    keys = [f"{name}/{number}" for number in range(21)]
    tasks = await session.submit_many(
        [
            TaskDefinition(b"hopeless root of all", [keys[0]]),
            *(TaskDefinition(b"total 1", [after], [before]) for before, after in itertools.pairwise(keys)),
        ]
    )
    try:
        await tasks[-1].result(timeout=_PATIENCE_S)
    except TaskFailedError as error:
        if "root of all" not in str(error):
            raise BrokenPromiseError(f"{keys[-1]}: the root cause is not told: {error}") from error
    else:
        raise BrokenPromiseError(f"{keys[-1]}: it exists")
    await _ends(session, {TaskStatus.ERROR: 21})


async def family(place: Place) -> None:
    """A task that has its result made by sub-tasks."""
    session = await place.session()
    task = await session.submit(b"family 5")
    if await task.result(timeout=_PATIENCE_S) != b"10":
        raise BrokenPromiseError(f"session {session.id}: the family added up wrongly")
    await _ends(session, {TaskStatus.COMPLETED: 7})


async def large(place: Place) -> None:
    """A payload and a result that go through the object store."""
    session = await place.session()
    task = await session.submit(b"echo " + bytes(range(250)) * (_LARGE_BYTES // 250))
    if await task.result(timeout=_PATIENCE_S) != bytes(reversed(range(250))) * (_LARGE_BYTES // 250):
        raise BrokenPromiseError(f"{task.id}: its result is not its payload reversed")


async def cancelled(place: Place) -> None:
    """Sixty tasks that are cancelled while they run: none completes afterwards."""
    session = await place.session()
    tasks = await session.submit_many([b"sleep 0.02"] * 60)
    await tasks[0].result(timeout=_PATIENCE_S)
    await session.cancel()
    completed = (await session.counts()).get(TaskStatus.COMPLETED, 0)
    counts = await session.wait(timeout=_PATIENCE_S)
    if counts.get(TaskStatus.COMPLETED, 0) != completed or sum(counts.values()) != 60:
        raise BrokenPromiseError(f"session {session.id}: {completed} completed when it was cancelled, then {counts}")
    if set(counts) - {TaskStatus.COMPLETED, TaskStatus.CANCELLED}:
        raise BrokenPromiseError(f"session {session.id}: {counts}")


#: What a day is made of: each job with how often it comes.
MIX: dict[Job, int] = {
    no_ops: 4,
    sleeps: 4,
    flaky: 1,
    hopeless: 1,
    diamond: 2,
    broken_chain: 1,
    family: 2,
    large: 2,
    cancelled: 1,
}
