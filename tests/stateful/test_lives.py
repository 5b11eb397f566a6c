"""Steps of sessions' lives made to cross with each other and with submissions, claims, commits and releases.

Whatever the order: everything ends, no invariant breaks, no task runs that must not, and none is forgotten.
"""

from collections.abc import Coroutine
from typing import Any

from ripieno.domain.errors import ConflictError, NotFoundError
from ripieno.domain.outcomes import Failure
from ripieno.domain.statuses import SessionStatus, SessionStep
from ripieno.store.attempts.attempts import release_if_owned
from ripieno.store.attempts.claim import Claimed
from ripieno.store.life.lives import live, stop_submission
from ripieno.store.sessions.counts import fold_counts
from stateful.crossing import Replicas, made
from store.world import failed, task, whole

N = 12


async def steps(replicas: Replicas, session_no: int, step: SessionStep) -> bool:
    """One replica takes a step; whether the session's status allowed it."""
    try:
        await whole(live(replicas.one.database, session_no, step))
    except (ConflictError, NotFoundError):
        return False
    return True


async def submits(replicas: Replicas, session_id: str, *names: str) -> bool:
    """One replica submits; whether the session took them."""
    try:
        return await replicas.submits(*(task(name, name) for name in names), session_id=session_id)
    except NotFoundError:
        return False


async def gives_back(replicas: Replicas, *claimed: Claimed) -> None:
    await release_if_owned(replicas.one.database, [each.ticket for each in claimed])


async def fresh(replicas: Replicas, name: str) -> tuple[int, dict[str, Claimed]]:
    """A session with ``N`` tasks, of which half are held, and as many that wait for them."""
    world = replicas.one
    number = await world.session(name)
    await world.submit(*(task(f"{name} a{n}", f"{name} a{n}") for n in range(N)), session_id=name)
    await world.submit(
        *(task(f"{name} b{n}", f"{name} b{n}", needs=[f"{name} a{n}"]) for n in range(N)), session_id=name
    )
    return number, await world.claim(N // 2)


def work(replicas: Replicas, name: str, claimed: dict[str, Claimed]) -> list[Coroutine[Any, Any, Any]]:
    """What goes on in a session: outcomes of all kinds, releases, submissions."""
    held = list(claimed.values())
    return [
        replicas.commits(made(held[0]), made(held[1])),
        replicas.commits(made(held[2], task(f"{name} sub", f"{name} sub"))),
        replicas.commits(failed(held[3])),
        gives_back(replicas, held[4], held[5]),
        submits(replicas, name, f"{name} c", f"{name} d"),
        submits(replicas, name, f"{name} e"),
    ]


async def test_a_pause_and_all_that_goes_on(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        name = f"pause {r}"
        number, claimed = await fresh(replicas, name)
        [_, late, *_] = await replicas.cross(
            steps(replicas, number, SessionStep.PAUSE), replicas.one.claim(3), *work(replicas, name, claimed)
        )
        assert await replicas.one.claim(1_000) == {}
        # What was claimed meanwhile ends, or comes back.
        held = list(late.values())
        await replicas.cross(
            gives_back(replicas, *held[:1]),
            replicas.commits(*(made(each) for each in held[1:2])),
            replicas.commits(*(failed(each) for each in held[2:])),
        )
        assert await replicas.one.claim(1_000) == {}
        assert await steps(replicas, number, SessionStep.RESUME)
        await replicas.finish()
        statuses = await replicas.one.rows(
            "select distinct status from states where session_no = $1 order by 1", number
        )
        assert statuses == [(10,)]
        assert await replicas.one.rows("select count(*) from tasks where session_no = $1", number) == [(2 * N + 4,)]


async def test_pauses_resumes_and_all_that_goes_on(replicas: Replicas, rounds: int) -> None:
    """As often as one likes, on any replica: in the end each task has run, and once."""
    for r in range(rounds):
        name = f"both {r}"
        number, claimed = await fresh(replicas, name)
        both = [SessionStep.PAUSE, SessionStep.RESUME] * 3
        replicas.chance.shuffle(both)
        await replicas.cross(
            *(steps(replicas, number, step) for step in both),
            replicas.finish(),
            *work(replicas, name, claimed),
        )
        assert await steps(replicas, number, SessionStep.RESUME)
        await replicas.finish()
        assert await replicas.unfinished() == 0
        rows = await replicas.one.rows("select count(*) from states where session_no = $1 and status = 10", number)
        assert rows == [(2 * N + 4,)]


async def test_a_close_and_all_that_goes_on(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        name = f"close {r}"
        number, claimed = await fresh(replicas, name)
        if r % 2:
            assert await steps(replicas, number, SessionStep.PAUSE)
        [closed, *_, two, one] = await replicas.cross(
            steps(replicas, number, SessionStep.CLOSE), *work(replicas, name, claimed)
        )
        assert closed and not await submits(replicas, name, f"{name} too late")
        await replicas.finish()
        assert await replicas.unfinished() == 0
        taken = [each != "-" for each in await replicas.one.statuses(f"{name} c", f"{name} d", f"{name} e")]
        assert taken == [two, two, one]
        [parent, child] = await replicas.one.statuses(f"{name} a2", f"{name} sub")
        assert (parent, child) in {("COMPLETED", "COMPLETED"), ("ERROR", "-")}


async def test_stopped_submissions_and_submissions(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        name = f"stop {r}"
        number, claimed = await fresh(replicas, name)
        database = replicas.one.database
        await replicas.cross(
            stop_submission(database, number, client=True, worker=False),
            stop_submission(database, number, client=False, worker=True),
            *work(replicas, name, claimed),
        )
        assert not await submits(replicas, name, f"{name} too late")
        await replicas.finish()
        assert await replicas.unfinished() == 0
        [parent, child] = await replicas.one.statuses(f"{name} a2", f"{name} sub")
        assert (parent, child) in {("COMPLETED", "COMPLETED"), ("ERROR", "-")}


async def test_purges_and_the_last_commits(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        name = f"purge {r}"
        number, claimed = await fresh(replicas, name)
        await steps(replicas, number, SessionStep.CLOSE if r % 2 else SessionStep.CANCEL)
        commits = [replicas.commits(made(each)) for each in claimed.values()]
        await replicas.cross(*commits, *(steps(replicas, number, SessionStep.PURGE) for _ in range(3)))
        await replicas.finish()
        await replicas.cross(
            *(steps(replicas, number, SessionStep.PURGE) for _ in range(3)), submits(replicas, name, f"{name} late")
        )
        rows = await replicas.one.rows("select status from sessions where session_no = $1", number)
        assert rows == [(SessionStatus.PURGED,)]
        blobs = "select 1 from tasks t join blobs b on b.blob_no = t.payload_no where t.session_no = $1"
        assert await replicas.one.rows(blobs, number) == []


async def test_a_deletion_and_all_that_goes_on(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        name = f"delete {r}"
        number, claimed = await fresh(replicas, name)
        held = list(claimed.values())
        others = [SessionStep.PAUSE, SessionStep.CLOSE, SessionStep.CANCEL, SessionStep.PURGE, SessionStep.DELETE]
        await replicas.cross(
            steps(replicas, number, SessionStep.DELETE),
            steps(replicas, number, replicas.chance.choice(others)),
            replicas.one.claim(3),
            fold_counts(replicas.one.database),
            *work(replicas, name, claimed),
        )
        late = [made(each) for each in held[:3]] + [failed(each, failure=Failure.OUTPUT) for each in held[3:]]
        await replicas.cross(
            replicas.commits(*late),
            gives_back(replicas, *held),
            submits(replicas, name, f"{name} too late"),
            replicas.one.sessions.create(name, replicas.default),
        )
        await replicas.finish()
        for table in ("sessions", "tasks", "states", "results", "dependencies", "options", "session_counts"):
            assert await replicas.one.rows(f"select 1 from {table} where session_no = {number}") == [], table
        assert await replicas.one.rows("select 1 from sessions where id = $1", name) == []
        assert await replicas.one.rows("select count(*) from deleted_sessions where id = $1", name) == [(1,)]


async def test_any_steps_at_once(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        name = f"any {r}"
        number, claimed = await fresh(replicas, name)
        chosen = replicas.chance.choices(list(SessionStep), k=6)
        await replicas.cross(*(steps(replicas, number, step) for step in chosen), *work(replicas, name, claimed))
        await replicas.finish()
        await replicas.cross(steps(replicas, number, SessionStep.CANCEL), steps(replicas, number, SessionStep.RESUME))
        await replicas.finish()
        assert await replicas.one.rows("select 1 from pending_sweeps") == []
        assert await replicas.one.claim(1_000) == {}
        waiting = "select 1 from states where session_no = $1 and status = 1"
        assert await replicas.one.rows(waiting, number) == []
