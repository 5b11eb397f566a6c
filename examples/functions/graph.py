"""Integrates a function adaptively: a task that is not exact enough splits its interval among sub-tasks.

    python graph.py 1e-6

Nobody knows beforehand how the graph of tasks will look: it grows where the function is steep. A task that
returns the futures of its sub-tasks delegates: their values are its value, and it does not wait for them.
"""

import math
import sys
from typing import Any

import ripieno


def steep(x: float) -> float:
    """A function with a peak of height 1 and width 0.01 at 0.7, on a gentle wave."""
    return math.exp(-(((x - 0.7) / 0.01) ** 2)) + 0.1 * math.sin(3 * x)


def simpson(left: float, right: float) -> float:
    """The integral over an interval, as if the function were a parabola there."""
    middle = (left + right) / 2
    return (right - left) / 6 * (steep(left) + 4 * steep(middle) + steep(right))


def total(parts: list[tuple[float, int]]) -> tuple[float, int]:
    """Add up integrals, and how many intervals there were."""
    return math.fsum(value for value, _ in parts), sum(count for _, count in parts)


def integrate(left: float, right: float, tolerance: float) -> Any:
    """The integral over an interval, and over how many pieces it was taken; or the future of both."""
    middle = (left + right) / 2
    whole, halves = simpson(left, right), simpson(left, middle) + simpson(middle, right)
    # A narrow peak can hide between the points of a wide interval.
    if right - left < 0.1 and abs(halves - whole) < 15 * tolerance:
        return halves + (halves - whole) / 15, 1
    task = ripieno.current()
    parts = [
        task.submit(integrate, left, middle, tolerance / 2),
        task.submit(integrate, middle, right, tolerance / 2),
    ]
    return task.submit(total, parts)  # delegation: this task's value is that sub-task's


if __name__ == "__main__":
    tolerance = float(sys.argv[1]) if len(sys.argv) > 1 else 1e-6
    with ripieno.connect() as cluster:
        value, pieces = cluster.submit(integrate, 0.0, 1.0, tolerance).result()
    exact = 0.01 * math.sqrt(math.pi) + 0.1 * (1 - math.cos(3)) / 3
    print(f"integral {value:.6f}, exact {exact:.6f}, {pieces} intervals")
