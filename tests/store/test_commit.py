"""The commit of attempts: once, by the owner of the claim, and all of it together."""

import asyncio

import pytest

from ripieno.domain.data import StoredObject
from ripieno.domain.outcomes import Failure
from ripieno.store.attempts.commit import Committer
from store.world import World, done, failed, options, over, task


async def test_a_completed_attempt(world: World) -> None:
    [claimed] = await world.begin(task("a", "k1", "k2"))
    changes = await world.commit(done(claimed, {"k1": b"one", "k2": b""}))
    assert await world.statuses("a") == ["COMPLETED"]
    assert (await world.data("k1"), await world.data("k2")) == (b"one", b"")
    assert changes.completed == {await world.number(): {"k1": b"one", "k2": b""}}
    assert await world.rows("select status, retry, worker, extract(epoch from started_at)::int from attempts") == [
        (10, 0, "worker-1", 1)
    ]


async def test_what_was_not_produced_is_aborted(world: World) -> None:
    [claimed] = await world.begin(task("a", "k1", "k2"))
    await world.submit(task("b", "kb", needs=["k2"]))
    changes = await world.commit(done(claimed, {"k1": b"one"}))
    assert await world.statuses("a", "b") == ["COMPLETED", "ERROR"]
    assert await world.results("k1", "k2", "kb") == ["COMPLETED", "ABORTED", "ABORTED"]
    assert await world.reasons("b") == [
        ("ERROR", "input 'k2' was aborted: task 'a' ended in COMPLETED: task 'a' completed without producing it")
    ]
    assert list(changes.aborted) == [await world.number()]


@pytest.mark.parametrize(("failure", "status"), [(Failure.ATTEMPT, "ERROR"), (Failure.TIMEOUT, "TIMEOUT")])
async def test_retries_and_then_the_end(world: World, failure: Failure, status: str) -> None:
    await world.submit(task("a", "ka"), of=options(retries=2))
    for retry in range(3):
        assert await world.statuses("a") == ["SUBMITTED"]
        claimed = (await world.claim())["a"]
        assert claimed.retry == retry
        changes = await world.commit(failed(claimed, f"no {retry}", failure))
        assert changes.partitions == ({""} if retry < 2 else set())
    assert await world.statuses("a") == [status]
    assert await world.results("ka") == ["ABORTED"]
    assert await world.reasons("a") == [(status, "no 0"), (status, "no 1"), (status, "no 2")]
    assert await world.claim() == {}


async def test_success_after_a_failure_keeps_the_failure_in_its_story(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    await world.commit(failed(claimed, "first", Failure.TIMEOUT))
    await world.run(a="ka")
    assert await world.rows("select retry, status, detail from attempts order by 1") == [
        (0, 12, "first"),
        (1, 10, None),
    ]


async def test_no_retry_where_none_is_allowed(world: World) -> None:
    await world.submit(task("a", "ka"), of=options(retries=0))
    await world.commit(failed((await world.claim())["a"], "only"))
    assert await world.statuses("a") == ["ERROR"]


async def test_an_output_error_is_final(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    await world.commit(failed(claimed, "boom", Failure.OUTPUT))
    assert await world.statuses("a") == ["ERROR"]
    assert await world.results("ka") == ["ABORTED"]
    assert await world.reasons("a") == [("ERROR", "boom")]


async def test_a_foreign_key_fails_the_attempt(world: World) -> None:
    a, b = await world.begin(task("a", "ka"), task("b", "kb"))
    await world.commit(done(a, {"ka": b"1", "kb": b"2"}), done(b, {"kb": b"3"}))
    assert await world.statuses("a", "b") == ["SUBMITTED", "COMPLETED"]
    assert await world.data("kb") == b"3"
    assert await world.results("ka") == ["CREATED"]
    await world.run(a="ka")
    assert await world.reasons("a") == [("ERROR", "results ['kb'] are not expected outputs of the task")]


async def test_the_end_of_many_in_one_flush(world: World) -> None:
    claimed = await world.begin(*(task(f"t{n}", f"k{n}") for n in range(200)))
    outcomes = [
        failed(each, failure=Failure.OUTPUT) if n % 3 else done(each, {f"k{n}": b"%d" % n})
        for n, each in enumerate(claimed)
    ]
    await world.commit(*reversed(outcomes))
    assert await world.statuses("t0", "t1", "t2", "t3") == ["COMPLETED", "ERROR", "ERROR", "COMPLETED"]
    assert await world.data("k198") == b"198"


async def test_an_outcome_with_more_results_than_a_block_of_numbers(world: World) -> None:
    keys = [f"k{n}" for n in range(3000)]
    [claimed] = await world.begin(task("a", *keys))
    await world.commit(done(claimed, {key: key.encode() for key in keys}))
    assert await world.data("k2999") == b"k2999"


async def test_an_abort_goes_down_the_graph_and_names_the_root(world: World) -> None:
    """A diamond below ``a``, and a neighbour that has nothing to do with it."""
    [a] = await world.begin(task("a", "ka"))
    await world.submit(
        task("b", "kb", needs=["ka"]),
        task("c", "kc", needs=["ka"]),
        task("d", "kd", needs=["kb", "kc"]),
        task("e", "ke", needs=["kd", "free"]),
        task("n", "free"),
    )
    changes = await world.commit(failed(a, "root cause", Failure.OUTPUT))
    assert await world.statuses("b", "c", "d", "e", "n") == ["ERROR"] * 4 + ["SUBMITTED"]
    assert await world.results("kb", "kc", "kd", "ke", "free") == ["ABORTED"] * 4 + ["CREATED"]
    [(_, why)] = await world.reasons("e")
    assert why == (
        "input 'kd' was aborted: task 'd' ended in ERROR: input 'kb' was aborted: task 'b' ended in ERROR: "
        "input 'ka' was aborted: task 'a' ended in ERROR: root cause"
    )
    assert set(changes.aborted) == changes.sessions == {await world.number()}
    await world.run(n="free")
    assert await world.statuses("e") == ["ERROR"]


async def test_a_long_chain_still_names_its_root(world: World) -> None:
    await world.submit(*(task(f"t{n}", f"k{n}", needs=[f"k{n - 1}"] if n else []) for n in range(300)))
    await world.commit(failed((await world.claim())["t0"], "root cause", Failure.OUTPUT))
    [(_, why)] = await world.reasons("t299")
    assert why.endswith("task 't0' ended in ERROR: root cause")
    assert why.startswith("input 'k298' was aborted: task 't298' ended in ERROR")
    assert len(why) < 5_000


async def test_aborts_of_several_sessions_in_one_flush(world: World) -> None:
    """Each session is cut with its own gate held: the flush is run again, not half locked."""
    names = ["s", "s2", "s3"]
    for name in names[1:]:
        await world.session(name)
    for name in names:
        await world.submit(task(f"{name}-a", "ka"), task(f"{name}-b", "kb", needs=["ka"]), session_id=name)
    claimed = await world.claim()
    await world.commit(*(failed(claimed[f"{name}-a"], "boom", Failure.OUTPUT) for name in names))
    for name in names:
        assert await world.statuses(f"{name}-a", f"{name}-b") == ["ERROR", "ERROR"]


async def test_a_lost_claim_changes_nothing(world: World) -> None:
    [first] = await world.begin(task("a", "ka"))
    await world.commit(failed(first, "its agent was lost"))
    second = (await world.claim())["a"]
    late = [done(first, {"ka": b"late"}, [task("child", "kc")]), failed(first, "late", Failure.OUTPUT)]
    for outcome in late:
        changes, lost = await world.committer.commit([outcome])
        assert lost == [first.ticket]
        assert changes.sessions == set() and changes.completed == {}
    assert await world.statuses("a", "child") == ["DISPATCHED", "-"]
    await world.commit(done(second, {"ka": b"right"}))
    assert await world.data("ka") == b"right"
    assert len(await world.reasons("a")) == 1


@pytest.mark.parametrize("late_first", [True, False])
async def test_a_late_outcome_beside_its_successors_in_one_flush(world: World, late_first: bool) -> None:
    [first] = await world.begin(task("a", "ka"))
    await world.commit(failed(first, "its agent was lost"))
    second = (await world.claim())["a"]
    late, right = done(first, {"ka": b"late"}), done(second, {"ka": b"right"})
    _, lost = await world.committer.commit([late, right] if late_first else [right, late])
    assert lost == [first.ticket]
    assert await world.data("ka") == b"right"


async def test_a_ticket_of_another_session_is_lost(world: World) -> None:
    other = await world.session("other")
    [claimed] = await world.begin(task("a", "ka"))
    outcome = done(claimed, {"ka": b"1"})
    forged = outcome._replace(ticket=claimed.ticket._replace(session_no=other))
    assert (await world.committer.commit([forged]))[1] == [forged.ticket]
    assert await world.statuses("a") == ["DISPATCHED"]


async def test_committing_twice_is_harmless(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    outcome = done(claimed, {"ka": b"1"}, [task("child", "kc")])
    await world.commit(outcome)
    changes, lost = await world.committer.commit([outcome])
    assert lost == [claimed.ticket] and not changes.completed
    _, lost = await world.committer.commit([outcome, outcome])
    assert lost == [claimed.ticket] * 2
    assert await world.statuses("a", "child") == ["COMPLETED", "SUBMITTED"]


async def test_the_same_outcome_twice_in_one_flush_counts_once(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    _, lost = await world.committer.commit([failed(claimed, "one"), failed(claimed, "two")])
    assert lost == [claimed.ticket]
    assert await world.reasons("a") == [("ERROR", "one")]


async def test_replicas_that_commit_the_same_outcome(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    replicas = [Committer(world.database, world.sessions) for _ in range(4)]
    outcomes = [done(claimed, {"ka": b"%d" % n}) for n in range(4)]
    ends = await asyncio.gather(
        *(replica.commit([outcome]) for replica, outcome in zip(replicas, outcomes, strict=True))
    )
    assert sorted(len(lost) for _, lost in ends) == [0, 1, 1, 1]
    [won] = [n for n, (_, lost) in enumerate(ends) if not lost]
    assert await world.data("ka") == b"%d" % won


async def test_cancelled_by_its_agent_alone_is_a_failed_attempt(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    await world.commit(over(claimed.ticket))
    assert await world.statuses("a") == ["SUBMITTED"]


async def test_a_large_result_whose_object_is_gone_is_made_again(world: World) -> None:
    a, b = await world.begin(task("a", "ka"), task("b", "kb"))
    gone = StoredObject("no/such", 5, b"digest")
    await world.commit(done(a, {"ka": gone}), done(b, {"kb": b"1"}))
    assert await world.statuses("a", "b") == ["SUBMITTED", "COMPLETED"]
    await world.run(a="ka")
    [(_, why)] = await world.reasons("a")
    assert "large data are gone" in why


async def test_nothing_to_commit(world: World) -> None:
    assert (await world.commit()).sessions == set()
