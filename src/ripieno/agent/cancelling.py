"""A cancellation that a task group swallowed, raised again."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled and has not noticed.

    A task group whose child fails just when its parent is cancelled raises the child's
    error alone (Python 3.11). Whoever handles that error and goes on must call this, or
    it goes on for ever.

    Raises:
        CancelledError: it was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
