"""Sub-tasks and delegation: they come to exist with their parent's commit, or never."""

import pytest

from ripieno.domain.data import StoredObject
from ripieno.domain.outcomes import Completed, Failure, Outcome, SubTasks
from ripieno.domain.submission import NewTask
from store.world import World, done, failed, options, task


async def test_sub_tasks_appear_with_the_commit(world: World) -> None:
    [parent] = await world.begin(task("p", "kp"))
    changes = await world.commit(done(parent, {"kp": b"1"}, [task("c1", "k1"), task("c2", "k2", needs=["k1", "kp"])]))
    assert changes.partitions == {""}
    assert await world.statuses("p", "c1", "c2") == ["COMPLETED", "SUBMITTED", "SUBMITTED"]
    await world.run(c1="k1")
    await world.run(c2="k2")


async def test_sub_tasks_without_options_take_the_sessions_default(world: World) -> None:
    await world.submit(task("p"), of=options(priority=99, partition="gpu"))
    parent = (await world.claim(partition="gpu"))["p"]
    own = options(priority=1, partition="slow")
    batches = [SubTasks(None, [task("c1")]), SubTasks(own, [task("c2")])]
    await world.commit(Outcome(parent.ticket, Completed([], batches)))
    c1, c2 = (await world.claim())["c1"], (await world.claim(partition="slow"))["c2"]
    known = await world.claims.options([c1.options_no, c2.options_no])
    assert (known[c1.options_no].priority, known[c2.options_no]) == (50, own)


async def test_a_failed_attempt_leaves_no_sub_tasks(world: World) -> None:
    [parent] = await world.begin(task("p", "kp"))
    await world.commit(failed(parent, "boom", Failure.OUTPUT))
    assert await world.results("kp") == ["ABORTED"]
    assert await world.statuses("c") == ["-"]


async def test_a_key_passes_to_the_sub_task(world: World) -> None:
    [parent] = await world.begin(task("p", "kp", "own"))
    await world.submit(task("w", "kw", needs=["kp"]))
    changes = await world.commit(done(parent, {"own": b"1"}, [task("c", "kp")]))
    assert list(changes.completed[await world.number()]) == ["own"]
    assert await world.owner("kp") == "c"
    assert await world.results("kp", "own") == ["CREATED", "COMPLETED"]
    await world.run(c="kp")
    await world.run(w="kw")
    assert await world.data("kp") == b"kp"


async def test_delegation_of_any_depth(world: World) -> None:
    await world.submit(task("t0", "k"))
    for depth in range(10):
        claimed = (await world.claim())[f"t{depth}"]
        await world.commit(done(claimed, {}, [task(f"t{depth + 1}", "k")]))
        assert await world.owner("k") == f"t{depth + 1}"
    await world.run(t10="k")
    assert await world.data("k") == b"k"


async def test_an_aggregator_takes_over_the_key_and_waits_for_its_sisters(world: World) -> None:
    [parent] = await world.begin(task("p", "kp"))
    children = [task(f"c{n}", f"k{n}") for n in range(3)]
    await world.commit(done(parent, {}, [*children, task("sum", "kp", needs=["k0", "k1", "k2"])]))
    await world.run(c0="k0", c1="k1", c2="k2")
    await world.run(sum="kp")
    assert await world.data("kp") == b"kp"


async def test_the_end_of_the_new_owner_is_the_end_of_the_key(world: World) -> None:
    [parent] = await world.begin(task("p", "kp"))
    await world.submit(task("w", needs=["kp"]))
    await world.commit(done(parent, {}, [task("c", "kp")], options(retries=0)))
    await world.commit(failed((await world.claim())["c"], "late boom"))
    assert await world.results("kp") == ["ABORTED"]
    assert await world.reasons("w") == [("ERROR", "input 'kp' was aborted: task 'c' ended in ERROR: late boom")]


async def test_a_sub_task_that_waits_for_what_its_parent_does_not_make(world: World) -> None:
    [parent] = await world.begin(task("p", "k1", "k2", "k3"))
    await world.submit(task("w", needs=["k3"]))
    await world.commit(done(parent, {"k1": b"1"}, [task("c", "k3", needs=["k1", "k2"])]))
    assert await world.statuses("p", "c", "w") == ["COMPLETED", "ERROR", "ERROR"]
    assert await world.results("k1", "k2", "k3") == ["COMPLETED", "ABORTED", "ABORTED"]


async def test_a_sub_task_that_waits_for_what_was_aborted_before(world: World) -> None:
    a, parent = await world.begin(task("a", "ka"), task("p", "kp"))
    await world.commit(failed(a, "boom", Failure.OUTPUT))
    await world.commit(done(parent, {}, [task("c", "kp", needs=["ka"])]))
    assert await world.statuses("c") == ["ERROR"]
    assert await world.results("kp") == ["ABORTED"]


async def test_a_sub_task_announces_what_somebody_waits_for(world: World) -> None:
    await world.submit(task("w", "kw", needs=["kc"]))
    [parent] = await world.begin(task("p"))
    await world.commit(done(parent, {}, [task("c", "kc")]))
    await world.run(c="kc")
    await world.run(w="kw")


async def test_a_sub_task_that_needs_another_attempts_result_of_the_same_flush(world: World) -> None:
    """The parent has no outputs of its own; its child depends on what its neighbour makes."""
    parent, neighbour = await world.begin(task("p"), task("n", "a", "z"))
    await world.commit(done(parent, {}, [task("c", needs=["z"])]), done(neighbour, {"a": b"1", "z": b"2"}))
    assert list(await world.claim()) == ["c"]


@pytest.mark.parametrize(
    ("child", "named"), [(task("taken", "kc"), "task ids already taken: 'taken'"), (task("c", "kt"), "'kt'")]
)
async def test_a_clash_is_the_error_of_that_parent_alone(world: World, child: NewTask, named: str) -> None:
    await world.submit(task("taken", "kt"), of=options(partition="elsewhere"))
    clashing, good, plain = await world.begin(task("p1", "k1"), task("p2", "k2"), task("p3", "k3"))
    await world.submit(task("w", needs=["k1"]))
    changes = await world.commit(
        done(clashing, {"k1": b"1"}, [task("first"), child]),
        done(good, {"k2": b"2"}, [task("g")]),
        done(plain, {"k3": b""}),
    )
    assert await world.statuses("p1", "p2", "p3", "w") == ["ERROR", "COMPLETED", "COMPLETED", "ERROR"]
    assert await world.statuses("first", "c", "g") == ["-", "-", "SUBMITTED"]
    [(status, why)] = await world.reasons("p1")
    assert status == "ERROR" and why.startswith("its sub-tasks were refused") and named in why
    assert set(changes.completed[await world.number()]) == {"k2", "k3"}


async def test_two_parents_that_make_the_same_child(world: World) -> None:
    first, second = await world.begin(task("p1", "k1"), task("p2", "k2"))
    await world.commit(done(first, {}, [task("c", "k1")]), done(second, {}, [task("c", "k2")]))
    assert await world.statuses("p1", "p2", "c") == ["COMPLETED", "ERROR", "SUBMITTED"]
    assert await world.results("k1", "k2") == ["CREATED", "ABORTED"]


async def test_a_sub_task_named_like_its_parent_is_a_clash(world: World) -> None:
    [parent] = await world.begin(task("p", "kp"))
    await world.commit(done(parent, {}, [task("p", "kp")]))
    assert await world.statuses("p") == ["ERROR"]


@pytest.mark.parametrize("results", [{"kp": b"1"}, {}])
async def test_a_key_given_twice_fails_the_attempt(world: World, results: dict[str, bytes]) -> None:
    [parent] = await world.begin(task("p", "kp"))
    batches = [SubTasks(None, [task("c1", "kp")]), SubTasks(None, [task("c2", *([] if results else ["kp"]))])]
    await world.commit(Outcome(parent.ticket, Completed(list(results.items()), batches)))
    assert await world.statuses("p", "c1", "c2") == ["SUBMITTED", "-", "-"]
    await world.run(p="kp")
    assert await world.reasons("p") == [("ERROR", "results ['kp'] were sent or delegated more than once")]


async def test_a_large_payload_of_a_sub_task_that_is_gone(world: World) -> None:
    [parent] = await world.begin(task("p", "kp"))
    await world.commit(done(parent, {}, [task("c", "kp", payload=StoredObject("no/such", 5, b""))]))
    assert await world.statuses("p", "c") == ["SUBMITTED", "-"]


async def test_a_parent_that_is_being_cancelled_has_no_children(world: World) -> None:
    [parent] = await world.begin(task("p", "kp"))
    await world.cancel_session()
    await world.commit(done(parent, {"kp": b"1"}, [task("c", "kc")]))
    assert await world.statuses("p", "c") == ["CANCELLED", "-"]
    assert await world.results("kp", "kc") == ["ABORTED", "-"]
