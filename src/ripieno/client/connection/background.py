"""``Background``: tasks that run beside the calls of a client and end with it."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self


class Background:
    """A task group whose tasks are cancelled when the block that opened it ends.

    An error inside such a task is a bug: it ends the block, as in any task group. An
    error of the block itself passes through unchanged.
    """

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Open the group. May be called again after the group was closed."""
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        return self

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a coroutine as a task beside the block. The task may be cancelled before it begins.

        Raises:
            RuntimeError: the block has ended, or is ending.
        """
        try:
            task = self._group.create_task(work)
        except RuntimeError:  # raised by a task group that has ended
            work.close()
            raise RuntimeError("the client is closed") from None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the tasks that still run and wait for them to end."""
        for task in self._tasks:
            task.cancel()
        if isinstance(error, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, trace)
        else:
            await self._group.__aexit__(None, None, None)
