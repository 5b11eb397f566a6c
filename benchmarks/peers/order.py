"""What a peer is asked to do, and how it answers: standard library only, both environments read it."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

#: The same bytes as ``benchmarks.tasks``; as text, since Celery and Dramatiq send JSON.
PAYLOAD = "p" * 100
RESULT = "x" * 100

#: Single tasks that are left out: connecting, loading.
_WARM = 20


@dataclass(frozen=True, slots=True)
class Order:
    """What to run.

    Attributes:
        tasks: In one round.
        rounds: How often.
        singles: Tasks one at a time.
        workers: Worker processes.
        scratch: A directory that is removed afterwards.
    """

    tasks: int
    rounds: int
    singles: int
    workers: int
    scratch: Path


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        version: Of the peer.
        how: How it was used, and what it keeps.
        rates: Tasks a second, one a round.
        singles_ms: Time of each single task.
    """

    version: str
    how: str
    rates: list[float]
    singles_ms: list[float]


def rates(order: Order, run: Callable[[int], int]) -> list[float]:
    """Run rounds; ``run`` gets a number of tasks and returns how many results it has in its hands."""
    found = []
    for count in (max(order.tasks // 10, 1), *([order.tasks] * order.rounds)):
        began = time.perf_counter()
        got = run(count)
        found.append(count / (time.perf_counter() - began))
        assert got == count, (got, count)
    return found[1:]


def singles_ms(order: Order, run: Callable[[], object]) -> list[float]:
    """Run single tasks, one at a time."""
    found = []
    for _ in range(order.singles + _WARM if order.singles else 0):
        began = time.perf_counter()
        run()
        found.append((time.perf_counter() - began) * 1e3)
    return found[_WARM:]


def answer(measure: Callable[[Order], Answer]) -> None:
    """Read the order from the command line, measure, and write the answer."""
    parser = argparse.ArgumentParser()
    for name in ("tasks", "rounds", "singles", "workers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    given = vars(parser.parse_args())
    to = given.pop("to")
    found = measure(Order(**given))
    to.write_text(json.dumps(asdict(found)))
    print(f"{statistics.median(found.rates):,.0f} tasks/s")
