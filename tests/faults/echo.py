"""A handler that gives back what it gets."""

from ripieno.worker import Task


def handle(task: Task) -> bytes:
    """Return the payload."""
    return task.payload
