"""Work in the store that is finished although its caller goes away: what is committed must be told."""

import asyncio
from collections.abc import AsyncIterator

from ripieno.control.waiting.notices import Notices
from ripieno.store.sessions.changes import Changes


class Background:
    """Runs work of the store in tasks of its own, and publishes what each step of it changes. ``run`` must be running."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Keep the tasks in which work runs, until cancelled itself."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await asyncio.Event().wait()

    def begin(self, steps: AsyncIterator[Changes]) -> "asyncio.Task[Exception | None]":
        """Begin the steps of some work; the task returns the error that ended them, since raising it would end others."""
        assert self._group is not None, "this part runs before calls are served"
        return self._group.create_task(self._told(steps))

    async def finish(self, steps: AsyncIterator[Changes]) -> None:
        """Take all steps of some work, even if the caller goes away meanwhile; raise the error that ended them."""
        error = await asyncio.shield(self.begin(steps))
        if error is not None:
            raise error

    async def _told(self, steps: AsyncIterator[Changes]) -> Exception | None:
        try:
            async for changes in steps:
                self._notices.publish(changes)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            return error
        return None
