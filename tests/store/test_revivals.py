"""Retries of failed tasks: another attempt, and the graph below waits again, step by step, whatever else goes on."""

import asyncio
import time

import pytest

from ripieno.domain.errors import SessionCancelledError
from ripieno.domain.outcomes import Failure
from ripieno.domain.submission import NewTask
from ripieno.store.database import turns
from ripieno.store.graph import cuts, revivals
from ripieno.store.graph.abandoned import Abandoned
from ripieno.store.reading.sanity import broken_invariants
from store.world import World, done, failed, options, task

N = 40


@pytest.fixture
def tiny_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that look at two tasks each."""
    monkeypatch.setattr(turns, "_SMALLEST", 2)
    monkeypatch.setattr(turns, "_LARGEST", 2)
    world.database.turns.size = 2
    monkeypatch.setattr(cuts, "_ON_THE_SIDE", (2, 20))


async def fails(world: World, *tasks: NewTask, detail: str = "it broke", claims: int = 1) -> None:
    """Submit tasks of which the first ``claims`` are claimable, and let these fail for good."""
    await world.submit(*tasks)
    claimed = await world.claim()
    assert list(claimed) == [each.id for each in tasks[:claims]]
    await world.commit(*(failed(each, detail, Failure.OUTPUT) for each in claimed.values()))


async def test_a_failed_task_has_another_attempt_and_its_history_stays(world: World) -> None:
    await fails(world, task("a", "k"), detail="the file is not there")
    assert await world.results("k") == ["ABORTED"]
    assert await world.retry("a") == ["a"]
    assert await world.statuses("a") == ["SUBMITTED"] and await world.results("k") == ["CREATED"]
    assert await world.reasons("a") == [("ERROR", "the file is not there")]
    [claimed] = (await world.claim()).values()
    assert claimed.retry == 1
    await world.commit(done(claimed, {"k": b"there"}))
    assert await world.data("k") == b"there"
    assert await world.rows("select retry, status, detail, worker from attempts order by 1") == [
        (0, 11, "the file is not there", "worker-1"),
        (1, 10, None, "worker-1"),
    ]


async def test_it_has_as_many_retries_again_as_its_options_say(world: World) -> None:
    await world.submit(task("a", "k"), of=options(retries=1))
    for first in (0, 2):
        for retry in (first, first + 1):
            [claimed] = (await world.claim()).values()
            assert claimed.retry == retry
            await world.commit(failed(claimed, f"no {retry}", Failure.TIMEOUT if first else Failure.ATTEMPT))
        assert await world.statuses("a") == ["TIMEOUT" if first else "ERROR"]
        assert await world.retry("a") == ["a"]
    assert [detail for _, detail in await world.reasons("a")] == ["no 0", "no 1", "no 2", "no 3"]


async def test_the_largest_number_of_retries_stays_the_largest(world: World) -> None:
    await world.submit(task("a"), of=options(retries=2**31 - 1))
    [claimed] = (await world.claim()).values()
    await world.commit(failed(claimed, "no", Failure.OUTPUT))
    assert await world.retry("a") == ["a"]
    assert await world.rows("select retry, max_retries from states") == [(1, 2**31 - 1)]


async def test_other_options_are_those_of_the_next_attempt(world: World) -> None:
    await fails(world, task("a", "k"), task("b", "l", needs=["k"]))
    other = options(retries=7, priority=99, partition="gpu")
    assert await world.retry("a", of=other) == ["a"]
    assert await world.claim() == {}
    [claimed] = (await world.claim(partition="gpu")).values()
    assert (await world.claims.options([claimed.options_no]))[claimed.options_no] == other
    assert await world.rows("select priority, max_retries from states order by task_no") == [(99, 8), (50, 2)]
    await world.commit(done(claimed, {"k": b""}))
    await world.run(b="l")


async def test_the_late_outcome_of_the_attempt_before_is_refused(world: World) -> None:
    [claimed] = await world.begin(task("a", "k"))
    await world.commit(failed(claimed, "its agent was lost", Failure.OUTPUT))
    await world.retry("a")
    _, lost = await world.committer.commit([done(claimed, {"k": b"late"})])
    assert lost == [claimed.ticket]
    await world.run(a="k")


@pytest.mark.parametrize("status", ["SUBMITTED", "DISPATCHED", "COMPLETED", "CANCELLED"])
async def test_what_did_not_fail_is_left_alone(world: World, status: str) -> None:
    await world.submit(task("a", "k"))
    claimed = await world.claim() if status in ("DISPATCHED", "COMPLETED") else {}
    if status == "COMPLETED":
        await world.commit(done(claimed["a"], {"k": b""}))
    if status == "CANCELLED":
        await world.cancel("a")
    assert await world.retry("a") == [] and await world.retry(everything=True) == []
    assert await world.statuses("a") == [status]


async def test_what_is_below_waits_again(world: World) -> None:
    await fails(
        world, task("a", "k1", "k2"), task("b", "l", needs=["k1", "k2", "k1"]), task("c", "m", needs=["l", "k2"])
    )
    assert await world.statuses("a", "b", "c") == ["ERROR"] * 3
    assert await world.retry(everything=True) == ["a"]
    assert await world.statuses("a", "b", "c") == ["SUBMITTED"] * 3
    assert await world.rows("select unmet, retry from states order by task_no") == [(0, 1), (2, 0), (2, 0)]
    [claimed] = (await world.claim()).values()
    await world.commit(done(claimed, {"k1": b"", "k2": b""}))
    await world.run(b="l")
    await world.run(c="m")


async def test_another_input_that_will_not_come_keeps_it_failed_and_is_the_reason(world: World) -> None:
    await world.submit(task("a", "ka"), task("x", "kx"), task("d", "kd", needs=["ka", "kx"]), task("e", needs=["kd"]))
    claimed = await world.claim()
    await world.commit(failed(claimed["a"], "a broke", Failure.OUTPUT))
    await world.commit(failed(claimed["x"], "x broke", Failure.OUTPUT))
    assert "a broke" in (await world.reasons("d"))[0][1]
    assert await world.retry("a") == ["a"]
    assert await world.statuses("a", "x", "d", "e") == ["SUBMITTED", "ERROR", "ERROR", "ERROR"]
    for name in "de":
        [(_, reason)] = await world.reasons(name)
        assert "x broke" in reason and "a broke" not in reason
    await world.run(a="ka")
    assert await world.retry("x") == ["x"]
    assert await world.statuses("d", "e") == ["SUBMITTED"] * 2
    await world.run(x="kx")
    await world.run(d="kd")
    assert list(await world.claim()) == ["e"]


@pytest.mark.usefixtures("tiny_steps")
async def test_two_causes_that_are_retried_together_in_many_steps(world: World) -> None:
    await world.submit(
        task("a", "ka"), task("x", "kx"), *(task(f"d{n}", f"d{n}", needs=["kx", "ka"]) for n in range(N)),
        task("last", needs=[f"d{n}" for n in range(N)]),
    )  # fmt: skip
    claimed = await world.claim()
    await world.commit(*(failed(claimed[name], "no", Failure.OUTPUT) for name in "ax"))
    assert await world.retry(everything=True) == ["a", "x"]
    assert set(await world.statuses(*(f"d{n}" for n in range(N)), "last")) == {"SUBMITTED"}
    claimed = await world.claim()
    await world.commit(done(claimed["a"], {"ka": b""}), done(claimed["x"], {"kx": b""}))
    await world.run(**{f"d{n}": f"d{n}" for n in range(N)})
    assert list(await world.claim()) == ["last"]


async def test_a_task_that_failed_for_want_of_an_input_is_not_retried_by_itself(world: World) -> None:
    await fails(world, task("a", "k"), task("b", needs=["k"]))
    assert await world.retry("b") == []
    assert await world.retry("b", "a") == ["a"]
    assert await world.statuses("a", "b") == ["SUBMITTED"] * 2


async def test_what_failed_because_of_a_cancelled_task_stays_failed(world: World) -> None:
    await world.submit(task("a", "k"), task("b", needs=["k"]))
    await world.cancel("a")
    assert await world.retry(everything=True) == []
    assert await world.statuses("a", "b") == ["CANCELLED", "ERROR"]


async def test_a_sub_task_that_took_over_its_parents_result_makes_it_again(world: World) -> None:
    [parent] = await world.begin(task("p", "k"))
    await world.submit(task("after", needs=["k"]))
    await world.commit(done(parent, sub_tasks=[task("child", "k", "own")]))
    [child] = (await world.claim()).values()
    await world.commit(failed(child, "no", Failure.OUTPUT))
    assert await world.statuses("p", "child", "after") == ["COMPLETED", "ERROR", "ERROR"]
    assert await world.retry("p", "child", "after") == ["child"]
    assert await world.owner("k") == "child" and await world.results("k", "own") == ["CREATED"] * 2
    [child] = (await world.claim()).values()
    await world.commit(done(child, {"k": b"", "own": b""}))
    assert list(await world.claim()) == ["after"]


async def test_a_parent_that_failed_makes_its_sub_tasks_when_it_is_retried(world: World) -> None:
    [parent] = await world.begin(task("p", "k"))
    await world.commit(failed(parent, "no", Failure.OUTPUT))
    await world.retry("p")
    [parent] = (await world.claim()).values()
    await world.commit(done(parent, sub_tasks=[task("child", "k")]))
    await world.run(child="k")


async def test_who_joined_those_that_wait_for_an_aborted_result_waits_again_too(world: World) -> None:
    await fails(world, task("a", "k"))
    await world.submit(task("late", "l", needs=["k"]))
    assert await world.statuses("late") == ["ERROR"]
    await world.retry("a")
    await world.submit(task("later", needs=["k", "l"]))
    assert await world.statuses("late", "later") == ["SUBMITTED"] * 2
    await world.run(a="k")
    await world.run(late="l")
    assert list(await world.claim()) == ["later"]


@pytest.mark.usefixtures("tiny_steps")
async def test_an_unfinished_cut_of_what_is_revived_is_dropped(world: World) -> None:
    [root] = await world.begin(task("root", "k"))
    await world.submit(*(task(f"t{n}", f"t{n}", needs=[f"t{n - 1}" if n else "k"]) for n in range(N)))
    changes, _ = await world.committer.commit([failed(root, "no", Failure.OUTPUT)])
    for _ in range(5):
        changes = await cuts.step(world.database, await world.number())
        assert changes.cuts, "the cut is not finished"
    await world.retry("root")
    assert await broken_invariants(world.database) == []
    assert await world.rows("select 1 from pending_cuts union all select 1 from pending_revivals") == []
    assert set(await world.statuses("root", *(f"t{n}" for n in range(N)))) == {"SUBMITTED"}


@pytest.mark.usefixtures("tiny_steps")
async def test_a_result_that_is_aborted_again_in_the_middle_of_a_revival(world: World) -> None:
    [root] = await world.begin(task("root", "k"))
    await world.submit(*(task(f"t{n}", f"t{n}", needs=["k"]) for n in range(N)))
    await world.commit(failed(root, "no", Failure.OUTPUT))
    await some_steps(world, "root")
    [root] = (await world.claim()).values()
    await world.commit(failed(root, "not again", Failure.OUTPUT))
    async for _ in revivals.finish(world.database, [await world.number()]):
        assert await broken_invariants(world.database) == []
    assert set(await world.statuses(*(f"t{n}" for n in range(N)))) == {"ERROR"}
    for n in (0, N - 1):
        assert "not again" in (await world.reasons(f"t{n}"))[0][1]


@pytest.mark.usefixtures("tiny_steps")
async def test_a_result_that_is_made_in_the_middle_of_a_revival_makes_the_others_claimable(world: World) -> None:
    [root] = await world.begin(task("root", "k"))
    await world.submit(*(task(f"t{n}", needs=["k"]) for n in range(N)))
    await world.commit(failed(root, "no", Failure.OUTPUT))
    await some_steps(world, "root")
    await world.run(root="k")
    claimable = set()
    async for step in revivals.finish(world.database, [await world.number()]):
        assert await broken_invariants(world.database) == []
        claimable |= step.changes.partitions
    assert claimable == {""}
    assert len(await world.claim(2 * N)) == N


async def some_steps(world: World, task_id: str) -> None:
    """Retry a task whose graph needs many steps, and take two of them."""
    session = await world.sessions.find("s")
    [(number,)] = await world.rows("select task_no from tasks where id = $1", task_id)
    assert isinstance(number, int)
    steps = revivals.retry_tasks(world.database, session, await revivals.failed_of(world.database, [number]))
    first = await anext(steps)
    await steps.aclose()  # type: ignore[attr-defined]
    assert first.retried == [number] and first.changes.revivals
    second = await revivals.step(world.database, session.session_no)
    assert second.changes.revivals and second.dependents
    assert await broken_invariants(world.database) == []


@pytest.mark.usefixtures("tiny_steps")
async def test_a_revival_that_was_left_in_the_middle_is_gone_on_with_by_another(world: World) -> None:
    [root] = await world.begin(task("root", "k"))
    await world.submit(*(task(f"t{n}", f"t{n}", needs=[f"t{n - 1}" if n else "k"]) for n in range(N)))
    await world.commit(failed(root, "no", Failure.OUTPUT))
    await some_steps(world, "root")
    abandoned = Abandoned(world.database)
    assert (await abandoned.look()).revivals == []
    found = (await abandoned.look()).revivals
    assert found == [await world.number()]
    async for _ in revivals.finish(world.database, found):
        assert await broken_invariants(world.database) == []
    assert set(await world.statuses(*(f"t{n}" for n in range(N)))) == {"SUBMITTED"}


@pytest.mark.usefixtures("tiny_steps")
async def test_a_session_that_is_cancelled_in_the_middle_of_a_revival(world: World) -> None:
    [root] = await world.begin(task("root", "k"))
    await world.submit(*(task(f"t{n}", f"t{n}", needs=["k"]) for n in range(N)))
    await world.commit(failed(root, "no", Failure.OUTPUT))
    await some_steps(world, "root")
    await world.cancel_session()
    statuses = await world.statuses("root", *(f"t{n}" for n in range(N)))
    assert statuses[0] == "CANCELLED" and set(statuses) == {"CANCELLED", "ERROR"}
    assert await world.rows("select 1 from pending_revivals") == []


async def test_nothing_is_retried_in_a_cancelled_session(world: World) -> None:
    await fails(world, task("a", "k"), task("b", needs=["k"]))
    await world.cancel_session()
    with pytest.raises(SessionCancelledError):
        await world.retry("a")
    assert await world.statuses("a", "b") == ["ERROR"] * 2


async def test_a_circle_below_what_is_retried_stays_failed(world: World) -> None:
    """A circle of tasks stays failed: it could never run, since each waits for the next one."""
    await world.submit(
        task("a", "ka"), task("x", "kx", needs=["ka", "kz"]), task("y", "ky", needs=["kx"]),
        task("z", "kz", needs=["ky"]), task("b", needs=["ka"]),
    )  # fmt: skip
    [claimed] = (await world.claim()).values()
    await world.commit(failed(claimed, "no", Failure.OUTPUT))
    assert await world.retry("a") == ["a"]
    assert await world.statuses("x", "y", "z", "b") == ["ERROR", "ERROR", "ERROR", "SUBMITTED"]
    assert "input 'kz' was aborted" in (await world.reasons("x"))[0][1]


async def test_the_first_cause_of_a_long_chain_that_was_retried_and_completed_is_not_told_wrongly(world: World) -> None:
    await world.submit(task("a", "ka"), task("x", "kx"), task("d0", "d0", needs=["ka", "kx"]))
    await world.submit(*(task(f"d{n}", f"d{n}", needs=[f"d{n - 1}"]) for n in range(1, 20)))
    claimed = await world.claim()
    await world.commit(failed(claimed["a"], "a broke", Failure.OUTPUT))
    await world.commit(failed(claimed["x"], "x broke", Failure.OUTPUT))
    await world.retry("a")
    assert (await world.reasons("d19"))[0][1].endswith("task 'a' failed, and was retried since")
    await world.run(a="ka")
    assert (await world.reasons("d19"))[0][1].endswith("task 'a' failed, and was retried since")
    assert "x broke" in (await world.reasons("d3"))[0][1]


@pytest.mark.parametrize("depth", [1_000, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_a_graph_of_great_depth_is_revived_in_short_steps(
    world: World, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_LONGEST_PAUSE_S", 0.0)  # nobody else is here
    [root] = await world.begin(task("root", "k"))
    for start in range(0, depth, 500):
        chain = range(start, start + 500)
        await world.submit(*(task(f"t{n}", f"t{n}", needs=[f"t{n - 1}" if n else "k"]) for n in chain))
    await world.commit(failed(root, "no", Failure.OUTPUT))
    assert await world.rows("select status, count(*) from states group by 1") == [(11, depth + 1)]
    session = await world.sessions.find("s")
    [(number,)] = await world.rows("select task_no from tasks where id = 'root'")
    assert isinstance(number, int)
    took: list[float] = []
    transaction = world.database.transaction

    async def measured(*arguments: object, **named: object) -> object:
        began = time.monotonic()
        try:
            return await transaction(*arguments, **named)  # type: ignore[arg-type]
        finally:
            took.append(time.monotonic() - began)

    world.database.transaction = measured  # type: ignore[method-assign, assignment]
    tasks = await revivals.failed_of(world.database, [number])
    dependents = 0
    async for step in revivals.retry_tasks(world.database, session, tasks):
        dependents += step.dependents
    async for step in revivals.finish(world.database, [session.session_no]):
        dependents += step.dependents
    assert dependents == depth
    assert await world.rows("select status, count(*) from states group by 1") == [(1, depth + 1)]
    assert len(took) > depth // 400 and sorted(took)[len(took) // 2] < 0.1, (
        f"{len(took)} steps, the longest {max(took):.3f} s"
    )


async def test_a_claim_and_a_retry_of_the_same_task_by_two_replicas(world: World) -> None:
    await fails(world, task("a", "k"), task("b", needs=["k"]))
    answers = await asyncio.gather(*(World(world.database).retry("a") for _ in range(4)))
    assert sorted(answers) == [[], [], [], ["a"]]
    assert await world.rows("select retry from states order by task_no") == [(1,), (0,)]
