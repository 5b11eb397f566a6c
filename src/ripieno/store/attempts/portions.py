"""Portions: limits of one transaction in bytes, rows and gates.

A transaction is usually one message to PostgreSQL, whose limit is 1 GiB, and which is in memory
more than once on its way; each session in it takes a place in the server's table of locks; and every caller
that shares the transaction waits for all of it.
So the work of many callers is written in portions, large enough that a further portion adds no
notable cost.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ripieno.domain.data import Data
from ripieno.domain.outcomes import Completed, Completions, Failed, Outcome
from ripieno.store.database.gates import MOST_GATES

Item = TypeVar("Item")

LARGEST_PORTION_BYTES = 16 * 1024 * 1024

#: Tasks, results and dependencies that one transaction writes; this takes some 100 ms at most.
LARGEST_PORTION_ROWS = 4_000


def _one(_item: object) -> int:
    return 1


def portions(
    items: Sequence[Item],
    session_no: Callable[[Item], int],
    size: Callable[[Item], int],
    rows: Callable[[Item], int] = _one,
) -> Iterator[Sequence[Item]]:
    """Divide items into portions, in their order; a single item that exceeds the limits is a portion of its own.

    A portion has up to ``LARGEST_PORTION_BYTES``, ``LARGEST_PORTION_ROWS`` and ``MOST_GATES`` sessions.

    Args:
        items: What is to be written.
        session_no: Returns the session that an item belongs to.
        size: Returns the bytes of an item.
        rows: Returns the number of rows that are written for an item.
    """
    portion: list[Item] = []
    sessions: set[int] = set()
    taken, written = 0, 0
    for item in items:
        number, item_bytes, item_rows = session_no(item), size(item), rows(item)
        too_large = taken + item_bytes > LARGEST_PORTION_BYTES or written + item_rows > LARGEST_PORTION_ROWS
        if portion and (too_large or (number not in sessions and len(sessions) == MOST_GATES)):
            yield portion
            portion, sessions, taken, written = [], set(), 0, 0
        portion.append(item)
        sessions.add(number)
        taken += item_bytes
        written += item_rows
    if portion:
        yield portion


def portions_of_outcomes(outcomes: Sequence[Outcome]) -> Iterator[Sequence[Outcome]]:
    """Divide outcomes into portions, in their order."""
    return portions(outcomes, lambda outcome: outcome.ticket.session_no, _outcome_bytes, rows_of)


def fits(attempts: Completions) -> bool:
    """Whether completions fit into one portion."""
    return (
        len(set(attempts.session_nos)) <= MOST_GATES
        and len(attempts) + len(attempts.keys) <= LARGEST_PORTION_ROWS
        and _completions_bytes(attempts) <= LARGEST_PORTION_BYTES
    )


def rows_of(outcome: Outcome) -> int:
    """Return how many rows an outcome writes, without those of dependents, which are written in steps."""
    if not isinstance(outcome.how, Completed):
        return 1
    sub_tasks = [task for batch in outcome.how.sub_tasks for task in batch.tasks]
    keys = sum([len(task.expected_output_keys) + len(task.data_dependencies) for task in sub_tasks])
    return 1 + len(outcome.how.results) + len(sub_tasks) + keys


def bytes_of(attempts: Completions, outcomes: Sequence[Outcome]) -> int:
    """Return the bytes of inline data of ended attempts, of what they have printed, and of the values of failures."""
    return _completions_bytes(attempts) + sum(map(_outcome_bytes, outcomes))


def _completions_bytes(attempts: Completions) -> int:
    size = sum(map(_inline_bytes, attempts.data))
    return size + sum(output.size for output in attempts.outputs.values()) if attempts.outputs else size


def _outcome_bytes(outcome: Outcome) -> int:
    printed = outcome.output.size if outcome.output is not None else 0
    if not isinstance(outcome.how, Completed):
        return printed + len((outcome.how.value if isinstance(outcome.how, Failed) else None) or b"")
    results = sum(_inline_bytes(data) for _, data in outcome.how.results)
    return (
        printed + results + sum(_inline_bytes(task.payload) for batch in outcome.how.sub_tasks for task in batch.tasks)
    )


def _inline_bytes(data: Data) -> int:
    return len(data) if isinstance(data, bytes) else 0
