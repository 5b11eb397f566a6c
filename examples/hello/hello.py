"""What a worker does with one task: ``ripieno worker hello:handle``."""

from ripieno.worker import Task


def handle(task: Task) -> bytes:
    """Greet whoever the payload names; what is returned is the task's result."""
    return f"Hello, {task.payload.decode()}!".encode()
