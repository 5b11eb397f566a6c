"""Timers that are due, made to cross with all that may happen to their tasks; any number of replicas fires them."""

from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Failure
from ripieno.domain.statuses import SessionStep
from stateful.crossing import Replicas, made
from store.world import failed, over, task

N = 12
EARLY = TaskOptions(10_000_000, 2, 50, {"ripieno.delay": "3600"})
LATE = TaskOptions(10_000_000, 2, 50, {"ripieno.deadline": "3600", "ripieno.retry.first_delay": "3600"})


async def make_due(replicas: Replicas) -> None:
    """Let the time of all timers come."""
    await replicas.one.rows("update timers set due_at = now() - interval '1 second'")


async def test_times_that_come_with_inputs_cancellations_and_pauses(replicas: Replicas, rounds: int) -> None:
    async def pauses() -> None:
        await replicas.one.live(SessionStep.PAUSE)
        await replicas.one.live(SessionStep.RESUME)

    for r in range(rounds):
        claimed = await replicas.claimed(*(task(f"a{r}-{n}", f"a{r}-{n}") for n in range(N)))
        later = [task(f"b{r}-{n}", f"b{r}-{n}", needs=[f"a{r}-{n}", f"a{r}-{(n + 1) % N}"]) for n in range(N)]
        await replicas.one.submit(*later, of=EARLY)
        await make_due(replicas)
        outcomes = [made(each) for each in claimed.values()]
        replicas.chance.shuffle(outcomes)
        await replicas.cross(
            *(replicas.commits(*outcomes[at : at + 4]) for at in range(0, N, 4)),
            *(replicas.one.fire() for _ in range(4)),
            replicas.cancels(*(f"b{r}-{n}" for n in range(0, N, 3))),
            *([pauses()] if r % 2 else []),
            *(replicas.submits(task(f"c{r}-{n}", needs=[f"b{r}-{n}"])) for n in range(N)),
        )
        await replicas.one.fire()
        await replicas.finish()
        for n in range(N):
            ends = tuple(await replicas.one.statuses(f"b{r}-{n}", f"c{r}-{n}"))
            assert ends in {("COMPLETED", "COMPLETED"), ("CANCELLED", "ERROR")} and (
                n % 3 == 0 or ends[0] == "COMPLETED"
            )
    assert await replicas.unfinished() == 0 and await replicas.one.rows("select 1 from timers") == []


async def test_deadlines_that_pass_with_commits_failures_and_cancellations(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        await replicas.one.submit(*(task(f"a{r}-{n}", f"a{r}-{n}") for n in range(2 * N)), of=LATE)
        claimed = await replicas.one.claim(N)
        await replicas.one.submit(*(task(f"b{r}-{n}", needs=[f"a{r}-{n}"]) for n in range(2 * N)))
        await make_due(replicas)
        [*_, late] = await replicas.cross(
            *(
                replicas.commits(failed(each) if place % 3 == 0 else made(each))
                for place, each in enumerate(claimed.values())
                if place % 4
            ),
            *(replicas.one.fire() for _ in range(4)),
            replicas.cancels(*(f"a{r}-{n}" for n in range(0, 2 * N, 5))),
            *(replicas.submits(task(f"c{r}-{n}", needs=[f"a{r}-{n}"])) for n in range(2 * N)),
            replicas.one.claim(N),
        )
        await replicas.one.fire()
        for each in (*claimed.values(), *late.values()):
            await replicas.commits(over(each.ticket))
        await replicas.finish()
        for n in range(2 * N):
            [ends, *below] = await replicas.one.statuses(f"a{r}-{n}", f"b{r}-{n}", f"c{r}-{n}")
            assert ends in {"COMPLETED", "TIMEOUT", "CANCELLED"}
            assert below == ["COMPLETED" if ends == "COMPLETED" else "ERROR"] * 2
    assert await replicas.unfinished() == 0


async def test_deadlines_of_ended_tasks_that_are_retried_meanwhile(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        names = [f"{r}-{n}" for n in range(N)]
        await replicas.one.submit(*(task(f"a{name}", f"a{name}") for name in names), of=LATE)
        await replicas.one.submit(*(task(f"b{name}", f"b{name}", needs=[f"a{name}"]) for name in names), of=LATE)
        claimed = await replicas.one.claim(N)
        await replicas.commits(*(failed(each, failure=Failure.OUTPUT) for each in claimed.values()))
        await replicas.finish_cuts()
        await make_due(replicas)
        await replicas.cross(
            *(replicas.one.fire() for _ in range(3)),
            *(replicas.retries(*(f"a{name}" for name in names[at : at + 3])) for at in range(0, N, 3)),
        )
        await replicas.finish_revivals()
        assert await replicas.one.statuses(*(f"{x}{name}" for x in "ab" for name in names)) == ["SUBMITTED"] * 2 * N
        rows = await replicas.one.rows(
            "select count(*) from timers join tasks t using (task_no) where due_at > now() and t.id = any($1)",
            [f"{x}{name}" for x in "ab" for name in names],
        )
        assert rows == [(2 * N,)]
        assert len(await replicas.finish()) == 2 * N


async def test_timers_of_sessions_that_are_cancelled_closed_and_deleted(replicas: Replicas, rounds: int) -> None:
    both = TaskOptions(10_000_000, 0, 50, {**EARLY.options, "ripieno.deadline": "2001-01-01T00:00:00Z"})
    for r in range(rounds):
        for step in (SessionStep.CANCEL, SessionStep.CLOSE, SessionStep.DELETE):
            name = f"{step.name} {r}"
            number = await replicas.one.session(name)
            for of in (EARLY, LATE, both):
                own = [
                    task(f"{name} {of is EARLY} {of is both} {n}", f"{of is EARLY} {of is both} {n}") for n in range(4)
                ]
                await replicas.one.submit(*own, session_id=name, of=of)
            await make_due(replicas)

            async def lives(name: str = name, step: SessionStep = step) -> None:
                if step is SessionStep.DELETE:
                    await replicas.one.cancel_session(name)
                await replicas.one.live(step, name)

            await replicas.cross(lives(), *(replicas.one.fire() for _ in range(4)))
            await replicas.one.fire()
            left = await replicas.one.rows("select 1 from timers where session_no = $1", number)
            assert left == []
        await replicas.finish()
    assert await replicas.unfinished() == 0
