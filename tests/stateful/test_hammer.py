"""Eight writers on four replicas do everything at once, in two sessions that they share."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from ripieno.domain.outcomes import Failure, Ticket
from ripieno.domain.submission import NewTask
from ripieno.store.attempts.attempts import mark_interrupting_if_owned, mark_started_if_owned, release_if_owned
from ripieno.store.attempts.claim import Claimed
from ripieno.store.database.database import NotPlainError
from ripieno.store.sessions.counts import fold_counts
from ripieno.store.submitting.submission import submit_and_claim
from stateful.crossing import Replicas, made
from store.world import AGENT, failed, over, task

WRITERS = 8
SESSIONS = ["s", "t"]
#: Keys are named from so far behind and ahead of what is being announced.
REACH = 6


class Writer:
    """Does one random thing after the other; knows only what it has claimed itself."""

    def __init__(self, replicas: Replicas, name: str) -> None:
        self.replicas = replicas
        self.name = name
        self.number = 0
        self.held: list[Claimed] = []
        self.stale: list[Claimed] = []
        self.actions: list[Callable[[], Awaitable[None]]] = [
            self.submit, self.submit, self.submit, self.claim, self.claim, self.commit, self.commit, self.commit,
            self.submit_and_claim, self.start, self.release, self.late, self.cancel, self.fold,
        ]  # fmt: skip

    async def act(self) -> None:
        await self.replicas.chance.choice(self.actions)()

    def fresh(self, *delegated: str) -> NewTask:
        """A task that needs keys of other writers, announced or not."""
        self.number += 1
        chance = self.replicas.chance
        needs = [
            f"k{chance.randrange(WRITERS)}-{max(1, self.number + chance.randint(-REACH, 1))}"
            for _ in range(chance.choice((0, 0, 1, 2, 3)))
        ]
        own = f"k{self.name}-{self.number}"
        return task(f"t{self.name}-{self.number}", own, *delegated, needs=[key for key in needs if key != own])

    async def submit(self) -> None:
        chance = self.replicas.chance
        tasks = [self.fresh() for _ in range(chance.randint(1, 4))]
        await self.replicas.submits(*tasks, session_id=chance.choice(SESSIONS))

    async def submit_and_claim(self) -> None:
        """What clashes is left alone: nothing may have happened."""
        chance, world = self.replicas.chance, self.replicas.one
        tasks = [self.fresh()._replace(data_dependencies=()) for _ in range(chance.randint(1, 2))]
        call = await world.call(tasks, chance.choice(SESSIONS))
        with suppress(NotPlainError):
            self.held += (await submit_and_claim(world.database, [call], [AGENT] * len(tasks)))[1]

    async def claim(self) -> None:
        self.held += (await self.replicas.one.claim(self.replicas.chance.randint(1, 6))).values()

    def take(self) -> list[Claimed]:
        self.replicas.chance.shuffle(self.held)
        count = self.replicas.chance.randint(1, 6)
        taken, self.held = self.held[:count], self.held[count:]
        self.stale += taken
        return taken

    async def commit(self) -> None:
        chance = self.replicas.chance
        outcomes = []
        for each in self.take():
            if chance.random() < 0.15:
                outcomes.append(failed(each, failure=chance.choice(list(Failure))))
            else:
                passed = list(each.expected_output_keys)[: chance.randint(0, 1)]
                children = [self.fresh(*passed), self.fresh()] if chance.random() < 0.2 else []
                outcomes.append(made(each, *children))
        await self.replicas.commits(*outcomes)

    async def start(self) -> None:
        began = [(each.ticket, 1_000_000, "w") for each in self.held if self.replicas.chance.random() < 0.5]
        await mark_started_if_owned(self.replicas.one.database, began)

    async def release(self) -> None:
        given_back = [each.ticket for each in self.take()]
        _, refused = await release_if_owned(self.replicas.one.database, given_back)
        await mark_interrupting_if_owned(self.replicas.one.database, refused)
        await self.replicas.commits(*(over(ticket) for ticket in refused))

    async def late(self) -> None:
        some = [each for each in self.stale if self.replicas.chance.random() < 0.1]
        await self.replicas.commits(*(made(each) for each in some))

    async def cancel(self) -> None:
        chance = self.replicas.chance
        ids = [f"t{chance.randrange(WRITERS)}-{self.number - chance.randint(-2, REACH)}" for _ in range(2)]
        changes = await self.replicas.one.cancel(*ids)
        await self.replicas.commits(*(over(ticket) for _, ticket in changes.cancelled))

    async def fold(self) -> None:
        await fold_counts(self.replicas.one.database)


async def test_everything_at_once_comes_to_an_end(replicas: Replicas, rounds: int) -> None:
    await replicas.one.session("t")
    writers = [Writer(replicas, f"{n}") for n in range(WRITERS)]

    async def write(writer: Writer) -> None:
        for _ in range(rounds * 3):
            await writer.act()

    await replicas.cross(*(write(writer) for writer in writers))
    held: list[Ticket] = [each.ticket for writer in writers for each in writer.held]
    await replicas.commits(*(made(each) for writer in writers for each in writer.held))
    assert len(set(held)) == len(held)
    # Give whatever still waits for a key that nobody announced one that does.
    for session_id in SESSIONS:
        number = await replicas.one.number(session_id)
        named = await replicas.one.rows("select key from results where status = 0 and session_no = $1", number)
        late = [task(f"late {session_id} {key}", str(key)) for (key,) in named]
        if late:
            await replicas.one.submit(*late, session_id=session_id)
    await replicas.finish()
    # What is left waits in circles, or for what does.
    circles = await replicas.one.rows("select id from states join tasks using (task_no) where status < 10")
    await replicas.cross(*(replicas.cancels(str(task_id)) for (task_id,) in circles))
    assert await replicas.unfinished() == 0
