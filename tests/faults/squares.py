"""A worker's handler for the fault tests: a little work, and a result that can be checked."""

import time

from ripieno.worker import Task


def handle(task: Task) -> bytes:
    """Return the square of the number in the payload, after a millisecond of work."""
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    return str(int(task.payload) ** 2).encode()
