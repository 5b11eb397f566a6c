"""Completions on the wire: columns that fit together, or a refusal that names the one that does not."""

import pytest

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.outcomes import FAILURE_VALUE_LIMIT_BYTES, Completions, Failed, Failure
from ripieno.domain.output import LARGEST_OUTPUT_LIMIT_BYTES, AttemptOutput
from ripieno.wire.outcomes import (
    LONGEST_DETAIL,
    completions_from_wire,
    completions_to_wire,
    outcome_from_wire,
    output_from_wire,
    output_to_wire,
)
from ripieno.wire.protos.v1 import agent_pb2

OUTPUT = AttemptOutput(b"\xff printed", b"", 0, 7)

COLUMNS = ["task_nos", "session_nos", "claims", "started_at_us", "workers", "result_counts", "keys", "data"]


def message() -> agent_pb2.Completions:
    """Three attempts with one, no and two results."""
    return agent_pb2.Completions(
        task_nos=[1, 2, 3],
        session_nos=[4, 4, 5],
        claims=[-(1 << 62), 0, 1 << 62],
        started_at_us=[7, 8, 9],
        workers=["v", "w", ""],
        result_counts=[1, 0, 2],
        keys=["a", "b", "c"],
        data=[b"1", b"", b"3"],
        outputs={0: output_to_wire(OUTPUT)},
    )


def test_there_and_back() -> None:
    decoded = completions_from_wire(message())
    assert decoded == Completions(
        [1, 2, 3],
        [4, 4, 5],
        [-(1 << 62), 0, 1 << 62],
        [7, 8, 9],
        ["v", "w", ""],
        [1, 0, 2],
        ["a", "b", "c"],
        [b"1", b"", b"3"],
        {0: OUTPUT},
    )
    encoded = agent_pb2.Completions()
    completions_to_wire(decoded, encoded)
    assert encoded == message()


def test_none_at_all() -> None:
    assert not completions_from_wire(agent_pb2.Completions())


def test_every_column_is_tested_here() -> None:
    assert sorted([*COLUMNS, "outputs"]) == sorted(field.name for field in agent_pb2.Completions.DESCRIPTOR.fields)


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in ("task_nos", "result_counts")])
def test_a_column_of_another_length_is_refused_by_name(name: str, change: int) -> None:
    uneven = message()
    column = getattr(uneven, name)
    column.append(column[0])
    if change < 0:
        del column[1:]
    with pytest.raises(InvalidRequestError, match=rf"completions\.{name}: has {len(column)} entries instead of 3"):
        completions_from_wire(uneven)


@pytest.mark.parametrize("task_nos", [[1, 2], [1, 2, 3, 4]])
def test_one_attempt_too_few_or_too_many_is_refused(task_nos: list[int]) -> None:
    """The first column says how many there are; the next one is found not to fit."""
    uneven = message()
    uneven.task_nos[:] = task_nos
    with pytest.raises(InvalidRequestError, match=rf"session_nos: has 3 entries instead of {len(task_nos)}"):
        completions_from_wire(uneven)


def test_counts_that_are_not_those_of_the_results_are_refused() -> None:
    uneven = message()
    uneven.result_counts[1] = 1
    with pytest.raises(InvalidRequestError, match=r"completions\.keys: has 3 entries instead of 4"):
        completions_from_wire(uneven)
    uneven.result_counts.append(0)
    with pytest.raises(InvalidRequestError, match=r"completions\.result_counts: has 4 entries instead of 3"):
        completions_from_wire(uneven)


def test_the_names_of_workers_are_made_storable() -> None:
    odd = message()
    odd.workers[0], odd.workers[1] = "a\0b", "w" * (2 * LONGEST_DETAIL)
    first, second, third = completions_from_wire(odd).workers
    assert (first, third) == ("a\N{REPLACEMENT CHARACTER}b", "")
    assert len(second) < LONGEST_DETAIL + 100


def test_what_only_a_newer_agent_can_mean_is_a_failed_attempt_and_nothing_more() -> None:
    unknown = agent_pb2.Outcome()
    unknown.failed.reason = 99  # type: ignore[assignment]
    unknown.failed.detail = "something new"
    how = outcome_from_wire(unknown).how
    assert isinstance(how, Failed)
    assert how.failure is Failure.ATTEMPT
    assert "something new" in how.detail and "99" in how.detail
    how = outcome_from_wire(agent_pb2.Outcome()).how
    assert isinstance(how, Failed)
    assert how.failure is Failure.ATTEMPT


def test_of_more_output_than_may_be_kept_the_end_is_taken() -> None:
    most = LARGEST_OUTPUT_LIMIT_BYTES
    taken = output_from_wire(output_to_wire(AttemptOutput(b"x" * 5 + b"y" * most, b"z", 3, 2**64 - 1)))
    assert taken == AttemptOutput(b"y" * most, b"z", 8, 2**62)
    assert output_from_wire(output_to_wire(OUTPUT)) == OUTPUT


def test_what_attempts_have_printed_stays_with_them() -> None:
    decoded = completions_from_wire(message())
    assert [outcome.output for outcome in decoded.outcomes()] == [None, OUTPUT, None]
    assert Completions.of(decoded.outcomes()) == decoded
    assert decoded.without({1 << 62}).outputs == {0: OUTPUT}
    assert decoded.without({0}).outputs == {}
    more = Completions([9], [9], [9], [9], [""], [0], outputs={9: OUTPUT})
    decoded.add(more)
    assert decoded.outputs == {0: OUTPUT, 9: OUTPUT}


def test_the_value_of_a_failure_is_kept_unless_it_is_too_long() -> None:
    """An agent of another make may send more than may be kept; one of before sends none."""
    longest = bytes(FAILURE_VALUE_LIMIT_BYTES)
    for value, kept in ((b"", b""), (longest, longest), (longest + b"x", None), (None, None)):
        failed = agent_pb2.Outcome.Failed(detail="boom", value=value)
        assert outcome_from_wire(agent_pb2.Outcome(failed=failed)).how == Failed(Failure.ATTEMPT, "boom", kept)
