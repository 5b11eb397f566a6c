"""A database with less typing: task ids and keys in, tickets and statuses out."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from uuid import uuid4

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Cancelled, Completed, Failed, Failure, Outcome, SubTasks, Ticket
from ripieno.domain.statuses import ResultStatus, SessionStatus, SessionStep, TaskStatus
from ripieno.domain.submission import NewTask
from ripieno.store.attempts.claim import Claimed, Claims
from ripieno.store.attempts.commit import Committer
from ripieno.store.cluster.agents import register_agent
from ripieno.store.database.database import Database
from ripieno.store.graph import cuts, promotions, revivals, timers
from ripieno.store.graph.cancel import cancel_session, cancel_tasks
from ripieno.store.life.lives import live, stop_submission
from ripieno.store.reading.lookup import find_result, find_tasks, result_statuses, task_failure
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import Sessions
from ripieno.store.submitting.submission import SubmissionCall, submit

OPTIONS = TaskOptions(max_duration_us=10_000_000, max_retries=2, priority=50)
AGENT = 7


def options(*, retries: int = 2, priority: int = 50, **free: str) -> TaskOptions:
    """Task options of which the test cares about some."""
    return TaskOptions(10_000_000, retries, priority, free)


def task(task_id: str, *outputs: str, needs: Sequence[str] = (), payload: Data = b"payload") -> NewTask:
    """A task that makes ``outputs`` out of ``needs``."""
    return NewTask(task_id, outputs, needs, payload)


def done(
    claimed: Claimed,
    results: Mapping[str, Data] | None = None,
    sub_tasks: Iterable[NewTask] = (),
    of_options: TaskOptions | None = None,
) -> Outcome:
    """The worker said ok."""
    children = list(sub_tasks)
    batches = [SubTasks(of_options, children)] if children else []
    return Outcome(claimed.ticket, Completed(list((results or {}).items()), batches), 1_000_000, "worker-1")


def failed(claimed: Claimed, detail: str = "it broke", failure: Failure = Failure.ATTEMPT) -> Outcome:
    """The attempt failed."""
    return Outcome(claimed.ticket, Failed(failure, detail), 1_000_000, "worker-1")


def over(ticket: Ticket) -> Outcome:
    """A cancelled attempt is over."""
    return Outcome(ticket, Cancelled())


async def whole(steps: AsyncIterator[Changes]) -> Changes:
    """What steps have changed together."""
    changes = Changes()
    async for step in steps:
        changes.add(step)
    return changes


async def promoted(database: Database, sessions: Iterable[int]) -> Changes:
    """Take steps until nothing is left to promote in these sessions."""
    changes = Changes()
    for session_no in sorted(sessions):
        changes.promotions = {session_no}
        while changes.promotions:
            changes.promotions = set()
            changes.add(await promotions.step(database, session_no))
    return changes


async def retried(
    world: "World",
    session_id: str,
    ids: Sequence[str] | None = None,
    of: TaskOptions | None = None,
    *,
    delayed: bool = False,
) -> revivals.Revived:
    """Retry those of the tasks that failed by themselves (None: all of the session); what all steps have done."""
    session = await world.sessions.find(session_id)
    if ids is None:
        pages = revivals.failed_in_session(world.database, session.session_no)
        failed = [each async for by_themselves, _ in pages for each in by_themselves]
    else:
        found = await find_tasks(world.database, ids)
        failed = await revivals.failed_of(world.database, [each.task_no for each in found.values()])
    if of is not None:
        options_no = (await world.sessions.intern_options(session, of)).options_no
        failed = [each._replace(options_no=options_no) for each in failed]
    whole = revivals.Revived()
    async for step in revivals.retry_tasks(world.database, session, failed, delayed=delayed):
        whole.add(step)
    if whole.changes.revivals:
        async for step in revivals.finish(world.database, [session.session_no]):
            whole.add(step)
    whole.changes.revivals = set()
    return whole


class World:
    """One database as one replica sees it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sessions = Sessions(database)
        self.claims = Claims(database)
        self.committer = Committer(database, self.sessions)

    async def session(self, session_id: str = "s", default: TaskOptions = OPTIONS) -> int:
        """Create a session; its number."""
        assert await self.sessions.create(session_id, default)
        return await self.number(session_id)

    async def number(self, session_id: str = "s") -> int:
        return (await self.sessions.find(session_id)).session_no

    async def call(
        self, tasks: Sequence[NewTask], session_id: str = "s", of: TaskOptions | None = None
    ) -> SubmissionCall:
        """A submission with its names resolved."""
        session = await self.sessions.find(session_id)
        options = await self.sessions.intern_options(session, of)
        assert options is not None
        return SubmissionCall(session, options, tasks)

    async def submit(self, *tasks: NewTask, session_id: str = "s", of: TaskOptions | None = None) -> Changes:
        """Submit tasks in one call, which must succeed."""
        [fault], changes = await submit(self.database, [await self.call(tasks, session_id, of)])
        if fault is not None:
            raise fault
        return await self.finish_cuts(changes)

    async def claim(self, count: int = 100, partition: str = "", agent: int = AGENT) -> dict[str, Claimed]:
        """Claim for one agent; by task id, in the order of the claim."""
        return {each.task_id: each for each in await self.claims.claim(partition, [agent] * count)}

    async def begin(self, *tasks: NewTask) -> list[Claimed]:
        """Submit tasks and claim them (and nothing else)."""
        await self.submit(*tasks)
        claimed = await self.claim(len(tasks) + 1)
        assert set(claimed) == {each.id for each in tasks}
        return [claimed[each.id] for each in tasks]

    async def commit(self, *outcomes: Outcome) -> Changes:
        """Commit outcomes, all of which must own their tasks."""
        changes, lost = await self.committer.commit(outcomes)
        assert lost == []
        return await self.finish_cuts(changes)

    async def finish_cuts(self, changes: Changes) -> Changes:
        """Go on with what a transaction has begun to cut and to promote, as the control plane does."""
        unmet, changes.promotions = changes.promotions, set()
        changes.add(await promoted(self.database, unmet))
        changes.promotions = set()
        left, changes.cuts = changes.cuts, set()
        changes.add(await whole(cuts.finish(self.database, left)))
        changes.cuts = set()
        return changes

    async def run(self, **results: str) -> None:
        """Claim everything claimable; each task named makes its one result of that name's value."""
        claimed = await self.claim()
        assert set(claimed) == set(results)
        await self.commit(*(done(claimed[name], {key: key.encode()}) for name, key in results.items()))

    async def cancel(self, *ids: str) -> Changes:
        found = await find_tasks(self.database, ids)
        return await whole(cancel_tasks(self.database, [each.task_no for each in found.values()]))

    async def cancel_session(self, session_id: str = "s") -> Changes:
        return await whole(cancel_session(self.database, await self.number(session_id)))

    async def retry(
        self,
        *ids: str,
        session_id: str = "s",
        of: TaskOptions | None = None,
        everything: bool = False,
        delayed: bool = False,
    ) -> list[str]:
        """Retry tasks, and revive what is below them; the ids of those that have another attempt."""
        revived = await retried(self, session_id, None if everything else ids, of, delayed=delayed)
        rows = await self.rows("select id from tasks where task_no = any($1::bigint[]) order by 1", revived.retried)
        return [str(task_id) for (task_id,) in rows]

    async def fire(self, *, everything: bool = False) -> Changes:
        """Fire what is due; with ``everything``, as if the time of all timers had come."""
        if everything:
            await self.rows("update timers set due_at = now() - interval '1 second'")
        changes = Changes()
        while sessions := await timers.due_sessions(self.database):
            changes.add(await whole(timers.fire(self.database, sessions)))
        return await self.finish_cuts(changes)

    async def live(self, step: SessionStep, session_id: str = "s") -> Changes:
        """Take a step of a session's life, and all that follows from it."""
        return await whole(live(self.database, await self.number(session_id), step))

    async def come_to(self, status: SessionStatus, session_id: str = "s") -> None:
        """Bring a running session, whose tasks are finished, to a status."""
        steps = {
            SessionStatus.RUNNING: (),
            SessionStatus.PAUSED: (SessionStep.PAUSE,),
            SessionStatus.CANCELLED: (SessionStep.CANCEL,),
            SessionStatus.CLOSED: (SessionStep.CLOSE,),
            SessionStatus.PURGED: (SessionStep.CLOSE, SessionStep.PURGE),
            SessionStatus.DELETED: (SessionStep.DELETE,),
        }
        for step in steps[status]:
            await self.live(step, session_id)

    async def stop_submission(self, session_id: str = "s", *, client: bool = False, worker: bool = False) -> None:
        await stop_submission(self.database, await self.number(session_id), client=client, worker=worker)

    async def status(self, task_id: str) -> TaskStatus:
        return (await find_tasks(self.database, [task_id]))[task_id].status

    async def statuses(self, *ids: str) -> list[str]:
        """Names of statuses, ``-`` for what does not exist."""
        found = await find_tasks(self.database, ids)
        return [found[each].status.name if each in found else "-" for each in ids]

    async def results(self, *keys: str, session_id: str = "s") -> list[str]:
        """Names of statuses, ``-`` for what nobody has announced."""
        found = await result_statuses(self.database, await self.number(session_id), keys)
        return [found[key].name if key in found else "-" for key in keys]

    async def owner(self, key: str, session_id: str = "s") -> str:
        found = await find_result(self.database, await self.number(session_id), key)
        assert found is not None
        return found.owner_id

    async def data(self, key: str, session_id: str = "s") -> Data:
        found = await find_result(self.database, await self.number(session_id), key)
        assert found is not None and found.status is ResultStatus.COMPLETED and found.data is not None
        return found.data

    async def reasons(self, task_id: str) -> list[tuple[str, str]]:
        """Status and detail of each failed attempt, oldest first."""
        found = (await find_tasks(self.database, [task_id]))[task_id]
        return [(each.status.name, each.detail) for each in (await task_failure(self.database, found.task_no)).errors]

    async def agent(self, name: str = "agent", lease_s: float = 60) -> int:
        return await register_agent(
            self.database, uuid4(), name=name, slots=1, partitions=[""], version="1", lease_s=lease_s
        )

    async def stage(self, name: str, size: int = 1_000_000) -> StoredObject:
        """An object as whoever has written it speaks of it: nothing links to it yet."""
        await self.database.fetch("insert into staged_objects (name) values ($1)", name)
        return StoredObject(name, size, f"digest of {name}".encode())

    async def rows(self, query: str, *arguments: object) -> list[tuple[object, ...]]:
        return [tuple(row) for row in await self.database.fetch(query, *arguments)]


async def until_one_waits(world: World) -> None:
    """Until a statement of this database waits for a lock."""
    waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(10):
        while True:
            if await world.rows(waiting):
                return
