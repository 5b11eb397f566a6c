"""Pairs of transactions that could miss or block each other, made to cross many times.

Whatever the order: everything ends, no invariant breaks, and PostgreSQL never has to refuse one.
"""

from collections.abc import Sequence

from ripieno.domain.errors import SessionCancelledError
from ripieno.domain.outcomes import Failure, Outcome
from stateful.crossing import Replicas, made
from store.world import failed, task

N = 12


async def test_a_submission_and_the_commit_of_its_dependency(replicas: Replicas, rounds: int) -> None:
    """Keys are named against the order of their tasks: only keys in the order of keys avoid a knot."""
    for r in range(rounds):
        claimed = await replicas.claimed(*(task(f"a{r}-{n}", f"k{r}-{N - n:02}") for n in range(N)))
        outcomes = [made(each) for each in claimed.values()]
        replicas.chance.shuffle(outcomes)
        commits = [replicas.commits(*outcomes[at : at + 4]) for at in range(0, N, 4)]
        keys = [f"k{r}-{n + 1:02}" for n in range(N)]
        submits = []
        for n in range(N):
            replicas.chance.shuffle(keys)
            submits.append(replicas.submits(*(task(f"b{r}-{n}-{i}", needs=keys[i : i + 4]) for i in range(3))))
        await replicas.cross(*commits, *submits)
        assert len(await replicas.finish()) == 3 * N
    assert await replicas.unfinished() == 0


async def test_a_submission_and_the_abort_of_its_dependency(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        claimed = await replicas.claimed(*(task(f"a{r}-{n}", f"a{r}-{n}") for n in range(N)))
        commits = [replicas.commits(failed(each, failure=Failure.OUTPUT)) for each in claimed.values()]
        submits = [
            replicas.submits(
                task(f"b{r}-{n}", f"b{r}-{n}", needs=[f"a{r}-{n}"]), task(f"c{r}-{n}", needs=[f"b{r}-{(n + 1) % N}"])
            )
            for n in range(N)
        ]
        await replicas.cross(*commits, *submits)
        assert await replicas.finish() == set()
        assert await replicas.one.statuses(*(f"{x}{r}-{n}" for x in "bc" for n in range(N))) == ["ERROR"] * 2 * N


async def test_a_cancel_and_commits(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        claimed = await replicas.claimed(*(task(f"a{r}-{n}", f"a{r}-{n}") for n in range(N)))
        await replicas.one.submit(*(task(f"b{r}-{n}", f"b{r}-{n}", needs=[f"a{r}-{n}"]) for n in range(N)))
        calls = [replicas.commits(made(each, task(f"{name}+"))) for name, each in claimed.items()]
        await replicas.cross(
            *calls, replicas.cancels(*claimed), replicas.cancels(*(f"b{r}-{n}" for n in range(0, N, 2)))
        )
        await replicas.finish()
        for name in claimed:
            [status, child] = await replicas.one.statuses(name, f"{name}+")
            [result] = await replicas.one.results(name)
            assert (status, child, result) in {("COMPLETED", "COMPLETED", "COMPLETED"), ("CANCELLED", "-", "ABORTED")}
    assert await replicas.unfinished() == 0


async def test_a_cancelled_session_and_all_that_goes_on_in_it(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        name = f"session {r}"
        number = await replicas.one.session(name)
        await replicas.one.submit(*(task(f"a{r}-{n}", f"a{r}-{n}") for n in range(N)), session_id=name)
        claimed = await replicas.one.claim(N // 2)
        [cancelled, claimed_late, *_] = await replicas.cross(
            replicas.one.cancel_session(name),
            replicas.one.claim(N // 2),
            *(replicas.commits(made(each, task(f"{each.task_id}+", f"{each.task_id}+"))) for each in claimed.values()),
            *(
                replicas.submits(task(f"b{r}-{n}", f"b{r}-{n}", needs=[f"a{r}-{n}", f"a{r}-{n}+"]), session_id=name)
                for n in range(N)
            ),
        )
        late = [made(each) for each in claimed_late.values()]
        assert {ticket for _, ticket in cancelled.cancelled} >= {each.ticket for each in claimed_late.values()}
        await replicas.cross(replicas.commits(*late), replicas.commits(*(made(each) for each in claimed.values())))
        assert await replicas.finish() == set()
        assert await replicas.one.rows("select 1 from states where session_no = $1 and status < 10", number) == []


async def test_a_delegation_and_the_abort_of_what_its_heir_needs(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        names = [f"{r}-{n}" for n in range(N)]
        claimed = await replicas.claimed(*(task(f"{x}{name}", f"{x}{name}") for x in "px" for name in names))
        await replicas.one.submit(*(task(f"w{name}", f"w{name}", needs=[f"p{name}"]) for name in names))
        await replicas.cross(
            *(replicas.commits(made(claimed[f"p{n}"], task(f"c{n}", f"p{n}", needs=[f"x{n}"]))) for n in names),
            *(replicas.commits(failed(claimed[f"x{n}"], failure=Failure.OUTPUT)) for n in names),
            *(replicas.submits(task(f"v{n}", needs=[f"w{n}", f"p{n}"])) for n in names),
        )
        assert await replicas.finish() == set()
        assert await replicas.one.statuses(*(f"{x}{n}" for x in "pcwv" for n in names)) == (
            ["COMPLETED"] * N + ["ERROR"] * 3 * N
        )


async def test_commits_that_each_complete_one_of_the_last_dependencies(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        claimed = await replicas.claimed(*(task(f"a{r}-{n}", f"a{r}-{n}") for n in range(N)))
        keys = list(claimed)
        waiting = []
        for n in range(3 * N):
            replicas.chance.shuffle(keys)
            waiting.append(task(f"b{r}-{n}", needs=keys[: 2 + n % (N - 1)]))
        await replicas.one.submit(*waiting)
        halves = list(claimed.values())
        replicas.chance.shuffle(halves)
        await replicas.cross(
            *(replicas.commits(*(made(each) for each in halves[at : at + 2])) for at in range(0, N, 2))
        )
        assert await replicas.finish() == {each.id for each in waiting}


async def test_submissions_that_name_each_others_keys_in_opposite_order(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        sides = []
        for side, other in ("xy", "yx"):
            makes = [task(f"{side}{r}-{n}", f"{side}{r}-{n}") for n in range(N)]
            needs = [
                task(f"{side}{side}{r}-{n}", needs=[f"{other}{r}-{n}", f"{side}{r}-{N - 1 - n}"]) for n in range(N)
            ]
            mixed = makes + needs
            replicas.chance.shuffle(mixed)
            sides += [mixed[:N], mixed[N:]]
        assert await replicas.cross(*(replicas.submits(*side) for side in sides)) == [True] * 4
        assert len(await replicas.finish()) == 4 * N
    assert await replicas.unfinished() == 0


async def test_sub_tasks_and_submissions_that_name_or_take_the_same_keys(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        names = [f"{r}-{n}" for n in range(N)]
        claimed = await replicas.claimed(*(task(f"p{name}", f"p{name}") for name in names))
        answers = await replicas.cross(
            *(replicas.submits(task(f"rival{n}", f"c{n}"), task(f"q{n}", needs=[f"p{n}", f"free{n}"])) for n in names),
            *(
                replicas.commits(made(claimed[f"p{n}"], task(f"c{n}", f"c{n}"), task(f"f{n}", f"free{n}")))
                for n in names
            ),
            *(
                replicas.submits(task(f"w{n}", needs=[f"c{n}", f"p{m}"]))
                for n, m in zip(names, reversed(names), strict=True)
            ),
        )
        await replicas.finish()
        for name, rival_came in zip(names, answers, strict=False):
            owner = await replicas.one.owner(f"c{name}")
            [parent] = await replicas.one.statuses(f"p{name}")
            assert (rival_came, owner, parent) in {(True, f"rival{name}", "ERROR"), (False, f"c{name}", "COMPLETED")}
        # What waits for the child of a refused parent waits for somebody else to announce its key.
        await replicas.cancels(*(f"{x}{name}" for x in "qw" for name in names))
    assert await replicas.unfinished() == 0


async def next_attempts(replicas: Replicas, late: Sequence[Outcome]) -> None:
    """Claim what was rescued and commit it, now and then in one flush with outcomes that come too late."""
    for _ in range(3):
        again = await replicas.one.claim(5)
        flush = [made(each, task(f"{each.task_id}+{each.retry}")) for each in again.values()]
        flush += [each for each in late if replicas.chance.random() < 0.5]
        replicas.chance.shuffle(flush)
        await replicas.commits(*flush)


async def test_a_rescue_a_late_outcome_and_the_next_attempt(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        claimed = await replicas.claimed(*(task(f"a{r}-{n}", f"a{r}-{n}") for n in range(N)))
        await replicas.one.submit(*(task(f"b{r}-{n}", needs=[f"a{r}-{n}"]) for n in range(N)))
        lost = [failed(each, "its agent was lost") for each in claimed.values()]
        late = [made(each, task(f"{each.task_id}+{each.retry}")) for each in claimed.values()]

        await replicas.cross(
            replicas.commits(*lost),
            replicas.commits(*reversed(lost)),
            *(replicas.commits(*late[at : at + 4]) for at in range(0, N, 4)),
            next_attempts(replicas, late),
            next_attempts(replicas, late),
        )
        await replicas.finish()
        for name in claimed:
            [(winner,)] = await replicas.one.rows(
                "select retry from states join tasks using (task_no) where id = $1", name
            )
            assert await replicas.one.data(name) == f"{name} {winner}".encode()
            children = [f"{name}+{retry}" for retry in range(3)]
            exist = [status != "-" for status in await replicas.one.statuses(*children)]
            assert sum(exist) <= 1 and not any(there for n, there in enumerate(exist) if n != winner)
    assert await replicas.unfinished() == 0


async def test_flushes_whose_sub_tasks_need_each_others_results(replicas: Replicas, rounds: int) -> None:
    """Parents without outputs of their own: nothing but their children makes the flush climb the ladder."""
    for r in range(rounds):
        numbers = range(2 * N)
        await replicas.one.submit(
            *(task(f"p{r}-{n}") for n in numbers), *(task(f"a{r}-{n}", f"a{r}-{n:02}") for n in numbers)
        )
        claimed = await replicas.one.claim(10_000)
        flushes = []
        for n in range(N):
            low, high = n, 2 * N - 1 - n
            for own, other in ((low, high), (high, low)):
                parent = made(claimed[f"p{r}-{own}"], task(f"c{r}-{own}", needs=[f"a{r}-{other:02}"]))
                flushes.append(replicas.commits(parent, made(claimed[f"a{r}-{own}"])))
        await replicas.cross(*flushes)
        assert await replicas.finish() == {f"c{r}-{n}" for n in numbers}


async def test_aborts_in_two_sessions_and_submissions_in_both(replicas: Replicas, rounds: int) -> None:
    await replicas.one.session("t")
    for r in range(rounds):
        names = [f"{session_id}{r}-{n}" for session_id in "st" for n in range(N)]
        for session_id in "st":
            own = [name for name in names if name[0] == session_id]
            await replicas.one.submit(*(task(f"a{name}", f"a{name}") for name in own), session_id=session_id)
            waiting = (task(f"b{name}", f"b{name}", needs=[f"a{name}"]) for name in own)
            await replicas.one.submit(*waiting, session_id=session_id)
        claimed = list((await replicas.one.claim(10_000)).values())
        replicas.chance.shuffle(claimed)
        await replicas.cross(
            *(
                replicas.commits(*(failed(each, failure=Failure.OUTPUT) for each in claimed[at : at + 4]))
                for at in range(0, 2 * N, 4)
            ),
            *(replicas.submits(task(f"c{name}", needs=[f"b{name}"]), session_id=name[0]) for name in names),
        )
        await replicas.finish_cuts()
        assert await replicas.one.statuses(*(f"{x}{name}" for x in "abc" for name in names)) == ["ERROR"] * 6 * N


async def failed_pairs(replicas: Replicas, r: int) -> list[str]:
    """Tasks that failed, each with a chain of two below it."""
    names = [f"{r}-{n}" for n in range(N)]
    claimed = await replicas.claimed(*(task(f"a{name}", f"a{name}") for name in names))
    for x, needed in (("b", "a"), ("c", "b")):
        await replicas.one.submit(*(task(f"{x}{name}", f"{x}{name}", needs=[f"{needed}{name}"]) for name in names))
    await replicas.commits(*(failed(each, failure=Failure.OUTPUT) for each in claimed.values()))
    await replicas.finish_cuts()
    return names


async def test_retries_of_the_same_tasks_and_submissions_that_need_what_they_make(
    replicas: Replicas, rounds: int
) -> None:
    for r in range(rounds):
        names = await failed_pairs(replicas, r)
        answers = await replicas.cross(
            replicas.retries(),
            *(replicas.retries(f"a{name}", f"c{name}") for name in names),
            *(replicas.submits(task(f"d{name}", f"d{name}", needs=[f"a{name}", f"c{name}"])) for name in names),
            *(replicas.submits(task(f"e{name}", needs=[f"d{name}"])) for name in names),
        )
        again = [task_id for retried in answers if isinstance(retried, list) for task_id in retried]
        assert sorted(again) == sorted(f"a{name}" for name in names), "each was retried once"
        await replicas.finish_cuts()
        await replicas.finish_revivals()
        assert await replicas.finish() == {f"{x}{name}" for x in "abcde" for name in names}
    assert await replicas.unfinished() == 0


async def test_retries_and_the_next_attempts_that_fail_again_or_complete(replicas: Replicas, rounds: int) -> None:
    async def attempts(r: int) -> None:
        for _ in range(3):
            for each in (await replicas.one.claim(N // 2)).values():
                fails = int(each.task_id.rpartition("-")[2]) % 2
                await replicas.commits(failed(each, failure=Failure.OUTPUT) if fails else made(each))

    for r in range(rounds):
        names = await failed_pairs(replicas, r)
        await replicas.cross(
            *(replicas.retries(*(f"a{name}" for name in names[at : at + 4])) for at in range(0, N, 4)),
            attempts(r),
            attempts(r),
            replicas.retries(),
            *(replicas.submits(task(f"d{name}", needs=[f"b{name}", f"c{name}"])) for name in names),
        )
        await replicas.finish_cuts()
        await replicas.finish_revivals()
        await replicas.finish()
        await replicas.retries()
        await replicas.finish()
        assert set(await replicas.one.statuses(*(f"{x}{name}" for x in "abcd" for name in names))) == {"COMPLETED"}
    assert await replicas.unfinished() == 0


async def test_retries_and_cancellations(replicas: Replicas, rounds: int) -> None:
    for r in range(rounds):
        names = await failed_pairs(replicas, r)
        await replicas.cross(
            replicas.retries(*(f"a{name}" for name in names)),
            *(replicas.cancels(f"a{name}", f"c{name}") for name in names[::2]),
            *(replicas.retries(f"a{name}") for name in names),
        )
        await replicas.finish_cuts()
        await replicas.finish_revivals()
        await replicas.finish()
        for name in names:
            statuses = tuple(await replicas.one.statuses(*(f"{x}{name}" for x in "abc")))
            assert statuses in {
                ("COMPLETED", "COMPLETED", "COMPLETED"),
                ("COMPLETED", "COMPLETED", "CANCELLED"),
                ("CANCELLED", "ERROR", "ERROR"),
                ("CANCELLED", "ERROR", "CANCELLED"),
            }, statuses
    assert await replicas.unfinished() == 0


async def test_retries_in_a_session_that_is_being_cancelled(replicas: Replicas, rounds: int) -> None:
    async def retries(session_id: str, *ids: str) -> bool:
        try:
            await replicas.retries(*ids, session_id=session_id)
        except SessionCancelledError:
            return False
        return True

    for r in range(rounds):
        name = f"session {r}"
        number = await replicas.one.session(name)
        await replicas.one.submit(*(task(f"a{r}-{n}", f"a{r}-{n}") for n in range(N)), session_id=name)
        await replicas.one.submit(
            *(task(f"b{r}-{n}", f"b{r}-{n}", needs=[f"a{r}-{n}"]) for n in range(N)), session_id=name
        )
        claimed = await replicas.one.claim(N)
        await replicas.commits(*(failed(each, failure=Failure.OUTPUT) for each in claimed.values()))
        await replicas.finish_cuts()
        await replicas.cross(
            replicas.one.cancel_session(name),
            *(retries(name, f"a{r}-{n}", f"a{r}-{(n + 1) % N}") for n in range(N)),
        )
        await replicas.finish_revivals()
        still_failed = await replicas.one.statuses(f"a{r}-0") == ["ERROR"]
        assert not (still_failed and await retries(name, f"a{r}-0"))
        assert await replicas.one.rows("select 1 from states where session_no = $1 and status < 10", number) == []
