"""Portions: how much goes into one transaction, by bytes and by gates.

A transaction is one message to PostgreSQL as a rule, whose limit is 1 GiB, and it is in memory
more than once on its way; and each session in it takes a place in the server's table of locks.
Whoever writes for many at once writes in portions of a size at which another portion costs
nothing any more.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ripieno.domain.data import Data
from ripieno.domain.outcomes import Completed, Completions, Outcome
from ripieno.store.gates import MOST_GATES

Item = TypeVar("Item")

LARGEST_PORTION_BYTES = 16 * 1024 * 1024


def portions(
    items: Sequence[Item], session_no: Callable[[Item], int], size: Callable[[Item], int]
) -> Iterator[Sequence[Item]]:
    """Cut items into runs of up to ``LARGEST_PORTION_BYTES`` and ``MOST_GATES`` sessions, but at least one item.

    Args:
        session_no: The session that an item belongs to.
        size: Its bytes.
    """
    portion: list[Item] = []
    sessions: set[int] = set()
    taken = 0
    for item in items:
        number, item_bytes = session_no(item), size(item)
        too_large = taken + item_bytes > LARGEST_PORTION_BYTES
        if portion and (too_large or (number not in sessions and len(sessions) == MOST_GATES)):
            yield portion
            portion, sessions, taken = [], set(), 0
        portion.append(item)
        sessions.add(number)
        taken += item_bytes
    if portion:
        yield portion


def portions_of_outcomes(outcomes: Sequence[Outcome]) -> Iterator[Sequence[Outcome]]:
    """Outcomes in portions, in their order."""
    return portions(outcomes, lambda outcome: outcome.ticket.session_no, _outcome_bytes)


def fits(attempts: Completions) -> bool:
    """Whether completions are one portion."""
    return len(set(attempts.session_nos)) <= MOST_GATES and sum(map(_inline_bytes, attempts.data)) <= (
        LARGEST_PORTION_BYTES
    )


def _outcome_bytes(outcome: Outcome) -> int:
    if not isinstance(outcome.how, Completed):
        return 0
    results = sum(_inline_bytes(data) for _, data in outcome.how.results)
    return results + sum(_inline_bytes(task.payload) for batch in outcome.how.sub_tasks for task in batch.tasks)


def _inline_bytes(data: Data) -> int:
    return len(data) if isinstance(data, bytes) else 0
