"""What is built for each of many tasks is given back: protobuf keeps what a message has ever held until it is dropped."""

import gc
from collections.abc import Callable

import psutil
import pytest

from ripieno.agent.attempts.attempt import Attempt, RunOptions
from ripieno.agent.attempts.opening import Opener, whole_opening
from ripieno.agent.conversation.gathering import Limits
from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.domain.outcomes import Completed
from ripieno.worker.conversation.replies import OneResult

MIB = 1 << 20
DATA = b"x" * 50_000
#: What goes through in each test: 400 MB.
ROUNDS = 8_000
#: What may stay of it: allocators keep some.
LEVEL_BYTES = 48 * MIB


def attempt(number: int) -> Attempt:
    made = Attempt(number, 2, number, "s", f"t{number}", f"t{number}", RunOptions({}, 60.0), [f"k{number}"], (), DATA)
    made.number = number
    return made


def opened_in_a_batch() -> Callable[[int], object]:
    opener, limits = Opener(), Limits()
    return lambda number: opener.encode(attempt(number), limits)


def opened_alone() -> Callable[[int], object]:
    limits = Limits()
    return lambda number: whole_opening(attempt(number), limits)


def answered() -> Callable[[int], object]:
    one_result = OneResult()
    return lambda number: one_result.encode(number, f"k{number}", DATA)


def reported() -> Callable[[int], object]:
    outbox = Outbox()

    def report(number: int) -> None:
        outbox.grant(1)
        outbox.over(attempt(number), Completed([(f"k{number}", DATA)], []))
        message = outbox.take()
        assert message is not None
        outbox.settled([message.outcomes_no])

    return report


def taken_back() -> Callable[[int], object]:
    """One message of outcomes is kept for long, and an attempt of it is lost now and then."""
    outbox, lost = Outbox(), 0
    for number in range(1, 50):
        outbox.over(attempt(number), Completed([(f"k{number}", DATA)], []))
    outbox.take()

    def lose(number: int) -> None:
        nonlocal lost
        if not number % 200:  # each time all that is left of 2.5 MB is written anew
            lost += 1
            outbox.drop({lost})

    return lose


@pytest.mark.parametrize("build", [opened_in_a_batch, opened_alone, answered, reported, taken_back])
def test_memory_is_level_whatever_went_through(build: Callable[[], Callable[[int], object]]) -> None:
    step, process = build(), psutil.Process()
    for number in range(1, 200):
        step(number)
    gc.collect()
    before = process.memory_info().rss
    for number in range(200, ROUNDS):
        step(number)
    gc.collect()
    grown = process.memory_info().rss - before
    assert grown < LEVEL_BYTES, f"{grown // MIB} MiB stayed of {ROUNDS * len(DATA) // MIB}"
