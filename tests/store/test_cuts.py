"""Cuts and cancellations in many steps: what is left in the middle is known, never run, and gone on with."""

import pytest

from ripieno.domain.outcomes import Failure
from ripieno.store.database import turns
from ripieno.store.graph import cuts
from ripieno.store.graph.abandoned import Abandoned
from ripieno.store.graph.cancel import cancel_session, cancel_tasks
from ripieno.store.reading.sanity import broken_invariants
from store.world import World, failed, task, whole

N = 40


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Of one task or two."""
    monkeypatch.setattr(cuts, "_ON_THE_SIDE", (1, 20))
    monkeypatch.setattr(turns, "_SMALLEST", 2)
    monkeypatch.setattr(turns, "_LARGEST", 2)
    world.database.turns.size = 2


def chain() -> list[str]:
    return [f"t{n}" for n in range(N)]


@pytest.mark.parametrize("wide", [False, True], ids=["deep", "wide"])
async def test_a_cut_goes_on_step_by_step(world: World, wide: bool) -> None:
    [root] = await world.begin(task("root", "k"))
    needs = ["k", *(["k"] * N if wide else chain())]
    await world.submit(*(task(name, name, needs=[needs[n]]) for n, name in enumerate(chain())))
    changes, _ = await world.committer.commit([failed(root, "root cause", Failure.OUTPUT)])
    steps = 0
    while changes.cuts:
        assert await broken_invariants(world.database) == []
        assert await world.claim() == {}
        changes = await cuts.step(world.database, await world.number())
        steps += 1
    assert steps > N // 4
    assert await world.statuses(*chain()) == ["ERROR"] * N
    assert "root cause" in (await world.reasons(f"t{N - 1}"))[0][1]


async def test_what_is_cancelled_together_does_not_fail_for_want_of_each_other(world: World) -> None:
    await world.submit(*(task(name, name, needs=[f"t{n - 1}"] if n else []) for n, name in enumerate(chain())))
    await world.submit(task("after", needs=[f"t{N - 1}"]))
    await world.cancel(*chain())
    assert await world.statuses(*chain(), "after") == ["CANCELLED"] * N + ["ERROR"]
    assert await world.rows("select 1 from pending_cancellations union all select 1 from pending_cuts") == []


async def test_a_session_that_was_left_in_the_middle_is_cancelled_by_another(world: World) -> None:
    await world.submit(*(task(name, name) for name in chain()))
    steps = cancel_session(world.database, await world.number())
    await anext(steps)
    await steps.aclose()  # type: ignore[attr-defined]  # its replica has ended
    abandoned = Abandoned(world.database)
    assert (await abandoned.look()).cancellations == []
    [(number, cancellation)] = (await abandoned.look()).cancellations
    await whole(cancel_session(world.database, number, cancellation=cancellation))
    assert await world.statuses(*chain()) == ["CANCELLED"] * N
    assert await world.rows("select 1 from pending_cancellations") == []


async def test_cuts_do_not_wait_for_a_cancellation_that_was_left_in_the_middle(world: World) -> None:
    await world.submit(*(task(name, name) for name in chain()), task("after", needs=["t0"]))
    numbers = [number for (number,) in await world.rows("select task_no from tasks where id <> 'after' order by 1")]
    steps = cancel_tasks(world.database, [number for number in numbers if isinstance(number, int)])
    await anext(steps)
    await steps.aclose()  # type: ignore[attr-defined]
    abandoned = Abandoned(world.database)
    await abandoned.look()
    found = await abandoned.look()
    assert found.cuts == [await world.number()] and found.cancellations == []
    await whole(cuts.finish(world.database, found.cuts))
    assert await world.statuses("t0", "after", f"t{N - 1}") == ["CANCELLED", "ERROR", "SUBMITTED"]
