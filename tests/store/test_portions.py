"""What goes into one transaction: so many bytes, rows and gates, and at least one outcome."""

from ripieno.domain.outcomes import Completed, Completions, Failed, Failure, Outcome, SubTasks, Ticket
from ripieno.store.attempts.portions import (
    LARGEST_PORTION_BYTES,
    LARGEST_PORTION_ROWS,
    fits,
    portions_of_outcomes,
    rows_of,
)
from ripieno.store.database.gates import MOST_GATES
from store.world import World, done, task


def completed(number: int, *, session: int = 1, sub_tasks: int = 0, data: bytes = b"") -> Outcome:
    """One result, and so many sub-tasks with one output and one input each."""
    children = [task(f"{number}-{n}", f"{number}-{n}", needs=["k"]) for n in range(sub_tasks)]
    return Outcome(Ticket(number, session, number), Completed([("k", data)], [SubTasks(None, children)]))


def sizes(outcomes: list[Outcome]) -> list[int]:
    """How many outcomes each portion has, once it is sure that nothing is lost or out of order."""
    portions = list(portions_of_outcomes(outcomes))
    assert [outcome for portion in portions for outcome in portion] == outcomes
    return [len(portion) for portion in portions]


def test_rows_are_what_is_written() -> None:
    assert rows_of(completed(1)) == 2
    assert rows_of(completed(1, sub_tasks=10)) == 2 + 10 * 3
    assert rows_of(Outcome(Ticket(1, 1, 1), Failed(Failure.ATTEMPT, "it broke"))) == 1


def test_outcomes_share_a_portion_up_to_so_many_rows() -> None:
    a_quarter = LARGEST_PORTION_ROWS // 4 // 3 - 1
    assert sizes([completed(n, sub_tasks=a_quarter) for n in range(9)]) == [4, 4, 1]


def test_one_that_is_too_large_is_alone() -> None:
    large = completed(2, sub_tasks=LARGEST_PORTION_ROWS)
    assert sizes([completed(1), large, completed(3), completed(4)]) == [1, 1, 2]


def test_outcomes_share_a_portion_up_to_so_many_bytes_and_gates() -> None:
    half = bytes(LARGEST_PORTION_BYTES // 2)
    assert sizes([completed(n, data=half) for n in range(5)]) == [2, 2, 1]
    assert sizes([completed(n, session=n) for n in range(MOST_GATES + 1)]) == [MOST_GATES, 1]


def test_completions_fit_as_their_outcomes_would() -> None:
    def made(results: int) -> Completions:
        outcome = Outcome(Ticket(1, 1, 1), Completed([(f"k{n}", b"") for n in range(results)]))
        plain = Completions.of([outcome])
        assert plain is not None
        return plain

    assert fits(made(LARGEST_PORTION_ROWS - 1))
    assert not fits(made(LARGEST_PORTION_ROWS))


async def test_attempts_with_very_many_sub_tasks_are_committed_in_several_transactions(world: World) -> None:
    names = [f"t{n}" for n in range(6)]
    claimed = await world.begin(*(task(name, name) for name in names))
    each = LARGEST_PORTION_ROWS // 4
    children = {one.task_id: [task(f"{one.task_id}-{n}") for n in range(each)] for one in claimed}
    await world.commit(*(done(one, {one.task_id: b"r"}, children[one.task_id]) for one in claimed))
    assert await world.statuses(*names) == ["COMPLETED"] * 6
    # One transaction has one time: as many as have created tasks since.
    [(transactions,)] = await world.rows("select count(distinct submitted_at) from tasks where id like 't_-%'")
    assert transactions == 2
    assert len(await world.claim(6 * each + 1)) == 6 * each
