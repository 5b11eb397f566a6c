"""Uploads, submissions that need them or take them over, deletions and cancellations, made to cross many times."""

from ripieno.domain.errors import ConflictError
from ripieno.store.results.client_results import ClientResults, NewResult
from ripieno.store.results.deletion import delete_data
from stateful.crossing import Replicas
from store.world import task

N = 12


class Clients:
    """Clients of several replicas that make results of their own in one session."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas
        self.results = [(world, ClientResults(world.database)) for world in replicas.worlds]

    async def create(self, count: int, session_id: str = "s") -> list[str]:
        world, results = self.replicas.chance.choice(self.results)
        session = await world.sessions.find(session_id)
        return (await results.create(session, [NewResult("", None)] * count))[0]

    async def uploads(self, key: str, session_id: str = "s") -> bool:
        """Whether the upload was taken."""
        world, results = self.replicas.chance.choice(self.results)
        try:
            await results.complete(await world.sessions.find(session_id), key, key.encode())
        except ConflictError:
            return False
        return True

    async def deletes(self, *keys: str) -> set[str]:
        world = self.replicas.one
        gone: set[str] = set()
        async for some, _ in delete_data(world.database, await world.sessions.find("s"), keys):
            gone.update(some)
        return gone


async def test_uploads_and_those_who_need_them(replicas: Replicas, rounds: int) -> None:
    """Nobody misses an upload, however it crosses the submission; each is taken, and taken once more."""
    clients = Clients(replicas)
    for r in range(rounds):
        keys = await clients.create(N)
        submits = []
        for n in range(N):
            replicas.chance.shuffle(keys)
            by_key = task(f"p{r}-{n}", payload=b"")._replace(payload_key=keys[0])
            submits.append(replicas.submits(task(f"a{r}-{n}", needs=keys[1:5]), by_key))
        taken = await replicas.cross(*(clients.uploads(key) for key in [*keys, *keys]), *submits)
        assert all(taken)
        assert len(await replicas.finish()) == 2 * N
    assert await replicas.unfinished() == 0


async def test_an_upload_and_a_task_that_would_make_the_same(replicas: Replicas, rounds: int) -> None:
    """One of them, and whoever waits gets what it made."""
    clients = Clients(replicas)
    for r in range(rounds):
        keys = await clients.create(N)
        await replicas.one.submit(*(task(f"w{r}-{n}", needs=[key]) for n, key in enumerate(keys)))
        answers = await replicas.cross(
            *(clients.uploads(key) for key in keys),
            *(replicas.submits(task(f"m{r}-{n}", key)) for n, key in enumerate(keys)),
        )
        assert [uploaded != submitted for uploaded, submitted in zip(answers[:N], answers[N:], strict=True)] == [
            True
        ] * N
        ran = await replicas.finish()
        assert {f"w{r}-{n}" for n in range(N)} <= ran
        assert len(ran) == N + sum(answers[N:])


async def test_an_upload_and_the_end_of_its_session(replicas: Replicas, rounds: int) -> None:
    clients = Clients(replicas)
    for r in range(rounds):
        name = f"session {r}"
        await replicas.one.session(name)
        keys = await clients.create(N, name)
        await replicas.one.submit(*(task(f"w{r}-{n}", needs=[key]) for n, key in enumerate(keys)), session_id=name)
        [_, *taken] = await replicas.cross(
            replicas.one.cancel_session(name), *(clients.uploads(key, name) for key in keys)
        )
        results = await replicas.one.results(*keys, session_id=name)
        assert results == ["COMPLETED" if each else "ABORTED" for each in taken]
        assert set(await replicas.one.statuses(*(f"w{r}-{n}" for n in range(N)))) == {"CANCELLED"}
        assert await replicas.finish() == set()


async def test_deletions_and_those_who_need_what_goes(replicas: Replicas, rounds: int) -> None:
    """A task that was not given deleted data fails; the results that it was to make are aborted."""
    clients = Clients(replicas)
    for r in range(rounds):
        keys = await clients.create(N)
        for key in keys:
            assert await clients.uploads(key)
        names = [f"a{r}-{n}" for n in range(N)]
        submits = [
            replicas.submits(task(name, name, needs=[key]), task(f"{name}+", needs=[name]))
            for name, key in zip(names, keys, strict=True)
        ]
        await replicas.cross(*submits, clients.deletes(*keys[::2]), clients.deletes(*keys[::4]))
        assert await replicas.one.results(*keys) == ["DELETED", "COMPLETED"] * (N // 2)
        ran = await replicas.finish()
        assert ran == {f"{name}{more}" for name in names[1::2] for more in ("", "+")}
        statuses = await replicas.one.statuses(*names)
        assert statuses == ["ERROR", "COMPLETED"] * (N // 2)
    assert await replicas.unfinished() == 0
