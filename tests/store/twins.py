"""Two worlds to which the same happens, once the plain way and once the careful way, and what came of it."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple, cast

from ripieno.domain.data import Data
from ripieno.domain.outcomes import Outcome
from ripieno.store.reading.sanity import broken_invariants
from ripieno.store.sessions.changes import Changes
from ripieno.store.submitting.submission import SubmissionCall, submit
from store.contents import contents
from store.ways import TwoWays
from store.world import World

Story = Callable[[World], Awaitable[object]]


class Twins(NamedTuple):
    """Two worlds to which the same happens."""

    plain: World
    careful: World

    @property
    def ways(self) -> TwoWays:
        """What counts the calls of the first."""
        return cast(TwoWays, self.plain.database)

    async def hear(self, story: Story) -> object:
        """Tell both a story; what it returned, the same for both."""
        returned = [await story(world) for world in self]
        assert returned[0] == returned[1]
        assert await contents(self.plain.database) == await contents(self.careful.database)
        assert cast(TwoWays, self.careful.database).plain == 0
        for world in self:
            assert await broken_invariants(world.database) == []
        return returned[0]


async def open_twins(stack: AsyncExitStack, url: str) -> Twins:
    """Each in a schema of its own."""
    plain, careful = [
        await stack.enter_async_context(TwoWays.open(url, pool_size=3, schema=schema))
        for schema in ("plain", "careful")
    ]
    cast(TwoWays, careful).careful_every = 1
    return Twins(World(plain), World(careful))


Told = tuple[set[int], set[str], dict[int, dict[str, Data]], set[int]]


def told(changes: Changes) -> Told:
    """What a call has changed; a session without completed results is as good as none."""
    completed = {session_no: dict(results) for session_no, results in changes.completed.items() if results}
    assert changes.cancelled == []
    return changes.sessions, changes.partitions, completed, set(changes.aborted)


async def committed(world: World, *outcomes: Outcome) -> tuple[Told, list[int]]:
    """Commit; what has changed, and the places of those that were lost."""
    changes, lost = await world.committer.commit(outcomes)
    await world.finish_cuts(changes)  # what a transaction does not get done on the side on a busy machine
    tickets = [outcome.ticket for outcome in outcomes]
    return told(changes), sorted(tickets.index(ticket) for ticket in lost)


async def submitted(world: World, *calls: SubmissionCall) -> tuple[list[str | None], Told]:
    """Submit calls in one flush: what was wrong with each, and what has changed."""
    faults, changes = await submit(world.database, calls)
    await world.finish_cuts(changes)  # likewise
    return [None if fault is None else fault.detail for fault in faults], told(changes)
