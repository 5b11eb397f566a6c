"""A worker's handler that says that it has begun, and never ends by itself."""

import threading
from pathlib import Path

from ripieno.worker import Task


def handle(task: Task) -> None:
    """Make the file that the payload names, and wait for ever."""
    Path(task.payload.decode()).touch()
    threading.Event().wait()
