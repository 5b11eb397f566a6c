"""Any story comes to the same, whether it is told the plain way or the careful way.

``store/test_plain.py`` has the stories that we thought of; these are those that we did not.
"""

import asyncio
from contextlib import AsyncExitStack

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ripieno.domain.outcomes import Failure, Outcome
from ripieno.domain.submission import NewTask
from ripieno.store.attempts.claim import Claimed
from ripieno.store.reading.sanity import broken_invariants
from store.contents import contents
from store.twins import Twins, committed, open_twins, submitted
from store.world import World, done, failed, options, task

EMPTY = """
    truncate sessions, options, tasks, states, earlier_attempts, results, dependencies, blobs, session_counts
    restart identity
"""

SESSIONS = ["s", "t"]
OPTIONS = [options(retries=0, priority=1), options(retries=2), options(retries=1, priority=99)]


class Teller:
    """Tells both worlds the same random story."""

    def __init__(self, twins: Twins, data: st.DataObject) -> None:
        self.twins = twins
        self.draw = data.draw
        self.names = 0
        self.held: list[tuple[Claimed, Claimed]] = []

    async def begin(self) -> None:
        for place, world in enumerate(self.twins):
            await world.database.fetch(EMPTY)
            fresh = World(world.database)
            self.twins = self.twins._replace(**{self.twins._fields[place]: fresh})
            for session_id in SESSIONS:
                await fresh.session(session_id)

    def task(self) -> NewTask:
        """Mostly one with names of its own, which needs what is near it: before it, and rarely after it."""
        self.names += 1
        name = self.names if self.draw(st.integers(0, 19)) else self.draw(st.integers(1, self.names))
        outputs = [f"k{name}", f"l{name}"][: self.draw(st.integers(0, 2))]
        after = 0 if self.draw(st.integers(0, 9)) else 2
        needs = self.draw(st.lists(st.integers(max(1, name - 4), name + after).map("k{}".format), max_size=3))
        return task(f"t{name}", *outputs, needs=[key for key in needs if key not in outputs], payload=b"%d" % name)

    async def submits(self) -> None:
        """Several calls in one flush."""
        drawn = [
            (
                [self.task() for _ in range(self.draw(st.integers(1, 4)))],
                self.draw(st.sampled_from(SESSIONS)),
                self.draw(st.sampled_from(OPTIONS)),
            )
            for _ in range(self.draw(st.integers(1, 3)))
        ]
        answers = [await submitted(world, *[await world.call(*each) for each in drawn]) for world in self.twins]
        assert answers[0] == answers[1]

    async def claims(self) -> None:
        limit = self.draw(st.integers(1, 6))
        plain, careful = [await world.claim(limit) for world in self.twins]
        assert list(plain) == list(careful)
        self.held += zip(plain.values(), careful.values(), strict=True)

    def outcome(self, pair: tuple[Claimed, Claimed]) -> list[Outcome]:
        kind = self.draw(st.sampled_from(["all"] * 9 + ["failed", "missing", "foreign"]))
        if kind == "failed":
            return [failed(each, failure=Failure.ATTEMPT) for each in pair]
        results = {key: f"{key} by {pair[0].task_id}".encode() for key in pair[0].expected_output_keys}
        if kind == "missing" and results:
            results.popitem()
        if kind == "foreign":
            results[f"k{self.draw(st.integers(1, self.names))}"] = b"foreign"
        return [done(each, results) for each in pair]

    async def commits(self) -> None:
        """A flush in any order; some of it may come again later, when it owns nothing."""
        size = self.draw(st.integers(1, 6))
        flush = self.draw(st.permutations(self.held))[:size]
        self.held = [pair for pair in self.held if pair not in flush or not self.draw(st.integers(0, 9))]
        outcomes = [self.outcome(pair) for pair in flush]
        answers = [
            await committed(world, *(both[place] for both in outcomes)) for place, world in enumerate(self.twins)
        ]
        assert answers[0] == answers[1]

    async def works(self) -> None:
        await self.claims()
        await self.commits()

    async def cancels(self) -> None:
        """What runs is let go of later, as late outcomes."""
        name = f"t{self.draw(st.integers(1, max(1, self.names)))}"
        for world in self.twins:
            await world.cancel(name)

    async def tell(self) -> None:
        await self.begin()
        steps = [self.submits, self.submits, self.works, self.works, self.claims, self.commits, self.cancels]
        for _ in range(self.draw(st.integers(2, 10))):
            await self.draw(st.sampled_from(steps))()
            assert await contents(self.twins.plain.database) == await contents(self.twins.careful.database)
        for world in self.twins:
            assert await broken_invariants(world.database) == []


def test_any_story_comes_to_the_same_either_way(database_url: str) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        twins = runner.run(open_twins(stack, database_url))

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.data())
        def tell(data: st.DataObject) -> None:
            runner.run(Teller(twins, data).tell())

        try:
            tell()
        finally:
            runner.run(stack.aclose())
        # Most of what is told is plain, and some of it is not.
        assert twins.ways.plain > twins.ways.refused > 0
