"""A handler that takes as long as it is told."""

import time

from ripieno.worker import Task


def handle(task: Task) -> bytes:
    """Sleep for so many seconds."""
    time.sleep(float(task.payload))
    return b"slept"
