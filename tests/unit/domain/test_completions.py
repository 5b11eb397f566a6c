"""Completed attempts as columns: what each of them says stays together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.outcomes import Cancelled, Completed, Completions, Failed, Failure, Outcome, SubTasks, Ticket
from ripieno.domain.submission import NewTask


def completed(claim: int, *results: tuple[str, Data]) -> Outcome:
    """An attempt whose every column is told from its neighbour's."""
    return Outcome(Ticket(10 * claim, claim % 2, claim), Completed(list(results)), 1_000 + claim, f"w{claim}")


ATTEMPTS = [
    completed(1, ("a", b"1")),
    completed(2),
    completed(3, ("b", b""), ("c", b"2"), ("d", b"3")),
    completed(4, ("e", b"4")),
]

#: Attempts under claims of their own, each with zero to three results.
_DATA = st.binary(max_size=3) | st.builds(StoredObject, st.text(max_size=3), st.integers(0, 9), st.binary(max_size=3))
_RESULTS = st.lists(st.tuples(st.text(max_size=3), _DATA), max_size=3)
_ATTEMPTS = st.lists(_RESULTS, max_size=6).map(
    lambda all_results: [completed(claim, *results) for claim, results in enumerate(all_results, 1)]
)


def columns(outcomes: list[Outcome]) -> Completions:
    made = Completions.of(outcomes)
    assert made is not None
    return made


@given(_ATTEMPTS)
def test_there_and_back(attempts: list[Outcome]) -> None:
    made = columns(attempts)
    assert made.outcomes() == attempts
    assert made.tickets() == [attempt.ticket for attempt in attempts]
    assert (len(made), bool(made)) == (len(attempts), bool(attempts))


@pytest.mark.parametrize(
    "how",
    [
        Failed(Failure.ATTEMPT, "it broke"),
        Cancelled(),
        Completed([("k", b"v")], [SubTasks(None, [NewTask("sub", (), (), b"")])]),
    ],
)
def test_what_did_anything_else_has_no_place_in_columns(how: Completed | Failed | Cancelled) -> None:
    assert Completions.of([*ATTEMPTS, Outcome(Ticket(1, 1, 1), how)]) is None


@given(_ATTEMPTS, st.sets(st.integers(0, 7)))
def test_without_some_claims_the_others_are_whole(attempts: list[Outcome], claims: set[int]) -> None:
    made = columns(attempts)
    left = made.without(claims)
    assert left.outcomes() == [attempt for attempt in attempts if attempt.ticket.claim not in claims]
    assert made.outcomes() == attempts  # as it was


def test_without_claims_that_are_not_there_nothing_is_copied() -> None:
    made = columns(ATTEMPTS)
    assert made.without({99}) is made
    assert made.without(set()) is made
    assert made.without({1}) is not made


@given(_ATTEMPTS, _ATTEMPTS)
def test_adding_puts_one_behind_the_other(first: list[Outcome], second: list[Outcome]) -> None:
    both, other = columns(first), columns(second)
    both.add(other)
    assert both.outcomes() == first + second
    assert other.outcomes() == second


def test_the_place_of_each_result() -> None:
    assert columns(ATTEMPTS).result_places() == [1, 3, 3, 3, 4]
    assert columns(ATTEMPTS[:1]).result_places() == [1]
    assert columns(ATTEMPTS[1:2]).result_places() == []
    assert Completions().result_places() == []


def test_the_place_of_each_result_where_none_and_two_make_as_many_as_attempts() -> None:
    """As many results as attempts, and yet not one each."""
    uneven = columns([completed(1), completed(2, ("a", b""), ("b", b""))])
    assert uneven.result_places() == [2, 2]


@given(_ATTEMPTS)
def test_places_lead_back_to_the_attempts(attempts: list[Outcome]) -> None:
    made = columns(attempts)
    results = [attempt.how.results for attempt in attempts if isinstance(attempt.how, Completed)]
    assert list(zip(made.result_places(), made.keys, made.data, strict=True)) == [
        (place, key, data) for place, each in enumerate(results, 1) for key, data in each
    ]
