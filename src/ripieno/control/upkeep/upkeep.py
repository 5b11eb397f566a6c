"""Periodic background work of a replica: looking after assignments, folding counts, collecting garbage, trimming."""

import asyncio
from collections.abc import Awaitable, Callable

from ripieno.background import Health, Loop
from ripieno.config import ControlSettings
from ripieno.store.attempts.outputs import forget_live_outputs
from ripieno.store.attempts.progress import forget_progress
from ripieno.store.changelog.trimming import mark, trim
from ripieno.store.cluster.agents import forget_agents
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.store.results.uploads import forget_uploads
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.counts import fold_counts

_FOLD_EVERY_S = 1.0
_RECONCILE_EVERY_S = 5.0
_COLLECT_EVERY_S = 3600.0
_MARK_EVERY_S = 15.0
_TRIM_EVERY_S = 60.0
#: What an attempt that runs has printed, and how far it has come, is kept this long after a follower was told of it last.
_FOLLOWED_S = 300.0


class Upkeep:
    """Runs the periodic background work of one replica.

    Args:
        reconcile: Releases assignments that their agents have never seen.
    """

    def __init__(
        self,
        settings: ControlSettings,
        database: Database,
        objects: ObjectStore,
        reconcile: Callable[[], Awaitable[None]],
        health: Health,
    ) -> None:
        self._settings = settings
        self._database = database
        self._objects = objects
        self._changed: set[int] = set()
        self._loops = [
            Loop("looking after assignments", reconcile, every_s=_RECONCILE_EVERY_S, health=health),
            Loop("folding counts", self._fold, every_s=_FOLD_EVERY_S, health=health),
            # Garbage can wait: a fault of its collection does not make the replica unready.
            Loop("collecting garbage", self._collect, every_s=_COLLECT_EVERY_S),
            Loop("forgetting what was followed", self._forget_followed, every_s=_FOLLOWED_S),
            Loop("marking the log of changes", self._mark, every_s=_MARK_EVERY_S),
            Loop("trimming the log of changes", self._trim, every_s=_TRIM_EVERY_S),
        ]

    async def run(self) -> None:
        """Run the loops until cancelled."""
        async with asyncio.TaskGroup() as group:
            for loop in self._loops:
                group.create_task(loop.run())

    def changed_here(self, changes: Changes) -> None:
        """Note the sessions that a transaction of this replica has changed: their counts are folded next."""
        self._changed |= changes.sessions

    async def _forget_followed(self) -> None:
        await forget_live_outputs(self._database, _FOLLOWED_S)
        await forget_progress(self._database, _FOLLOWED_S)

    async def _fold(self) -> None:
        # Fold only sessions that this replica has changed: to look at every session each second would cost more the more
        # sessions there are.
        changed, self._changed = self._changed, set()
        if changed:
            try:
                await fold_counts(self._database, sorted(changed))
            except BaseException:
                self._changed |= changed
                raise

    async def _collect(self) -> None:
        await forget_uploads(self._database)
        await self._objects.collect_garbage()
        await forget_agents(self._database)

    async def _mark(self) -> None:
        await mark(self._database)

    async def _trim(self) -> None:
        await trim(self._database, age_s=self._settings.change_log_s, size=self._settings.change_log_bytes)
