"""Letting calls of several replicas cross, and bringing what they leave to its end."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from ripieno.domain.errors import ConflictError
from ripieno.domain.outcomes import Outcome, Ticket
from ripieno.domain.submission import NewTask
from ripieno.store.attempts.claim import Claimed
from ripieno.store.graph import cuts, revivals
from ripieno.store.sessions.changes import Changes
from store.world import OPTIONS, World, done, over, promoted, whole


class Replicas:
    """Replicas in a random order of events that a seed fixes as far as we decide it."""

    def __init__(self, worlds: list[World], chance: random.Random) -> None:
        self.worlds = worlds
        self.chance = chance

    #: Options of a session that is created.
    default = OPTIONS

    @property
    def one(self) -> World:
        """Any of them."""
        return self.chance.choice(self.worlds)

    async def cross(self, *calls: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run calls at once, begun in random order; what each returned."""
        order = list(enumerate(calls))
        self.chance.shuffle(order)
        running: dict[int, asyncio.Task[Any]] = {}
        async with asyncio.TaskGroup() as group:
            for place, call in order:
                running[place] = group.create_task(call)
                for _ in range(self.chance.choice((0, 0, 1, 4, 16))):
                    await asyncio.sleep(0)
        return [running[place].result() for place in range(len(calls))]

    async def submits(self, *tasks: NewTask, session_id: str = "s") -> bool:
        """One replica submits; whether nothing clashed."""
        try:
            await self.one.submit(*tasks, session_id=session_id)
        except ConflictError:
            return False
        return True

    async def commits(self, *outcomes: Outcome) -> list[Ticket]:
        """One replica commits; which tickets were lost."""
        return (await self.one.committer.commit(outcomes))[1]

    async def cancels(self, *ids: str) -> Changes:
        """One replica cancels tasks, and their agents let go of what ran."""
        world = self.one
        changes = await (world.cancel(*ids) if ids else world.cancel_session())
        await self.commits(*(over(ticket) for _, ticket in changes.cancelled))
        return changes

    async def retries(self, *ids: str, session_id: str = "s") -> list[str]:
        """One replica retries tasks (none: all that failed); the ids of those that have another attempt."""
        return await self.one.retry(*ids, session_id=session_id, everything=not ids)

    async def claimed(self, *tasks: NewTask) -> dict[str, Claimed]:
        """Submit tasks and claim all that is claimable."""
        await self.one.submit(*tasks)
        return await self.one.claim(10_000)

    async def finish(self) -> set[str]:
        """Run all that is claimable, and what that makes claimable; the ids in their order."""
        ran: set[str] = set()
        await self.finish_cuts()
        await self.finish_promotions()
        while some := await self.one.claim(1_000):
            ran |= set(some)
            await self.commits(*(made(each) for each in some.values()))
            await self.finish_promotions()
        await self.finish_cuts()
        return ran

    async def finish_cuts(self) -> None:
        """Cut what transactions have left to be cut, as their replicas would."""
        for (session_no,) in await self.one.rows("select distinct session_no from pending_cuts"):
            assert isinstance(session_no, int)
            await whole(cuts.finish(self.one.database, [session_no]))

    async def finish_promotions(self) -> None:
        """Promote whom transactions have left to be promoted."""
        for (session_no,) in await self.one.rows("select distinct session_no from pending_promotions"):
            assert isinstance(session_no, int)
            await promoted(self.one.database, [session_no])

    async def finish_revivals(self) -> None:
        """Revive what transactions have left to be revived."""
        for (session_no,) in await self.one.rows("select distinct session_no from pending_revivals"):
            assert isinstance(session_no, int)
            async for _ in revivals.finish(self.one.database, [session_no]):
                pass

    async def unfinished(self) -> int:
        """How many tasks have not come to an end."""
        [(count,)] = await self.one.rows("select count(*) from states where status < 10")
        assert isinstance(count, int)
        return count


def made(claimed: Claimed, *sub_tasks: NewTask) -> Outcome:
    """An outcome that makes every expected output which no sub-task takes over."""
    passed = {key for task in sub_tasks for key in task.expected_output_keys}
    data = f"{claimed.task_id} {claimed.retry}".encode()
    return done(claimed, {key: data for key in claimed.expected_output_keys if key not in passed}, sub_tasks)
