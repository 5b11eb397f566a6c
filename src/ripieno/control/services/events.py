"""The Events service: the changes of sessions, tasks and results, as they are committed."""

import asyncio
from contextlib import aclosing
from typing import Any

import grpc.aio

from ripieno.control.events.following import EventsFollower, Tidings
from ripieno.control.events.tail import Tail
from ripieno.control.waiting.watcher import Watcher
from ripieno.domain.identifiers import check_identifier
from ripieno.store.changelog.cursors import Cursor
from ripieno.store.changelog.log import ChangeLog
from ripieno.store.database.database import Database
from ripieno.store.sessions.sessions import Sessions
from ripieno.wire.events import event_batches
from ripieno.wire.protos.v1 import events_pb2, events_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class Events(events_pb2_grpc.EventsServicer):
    """Implements the Events service for clients."""

    def __init__(self, database: Database, sessions: Sessions, log: ChangeLog, tail: Tail, watcher: Watcher) -> None:
        self._database = database
        self._sessions = sessions
        self._log = log
        self._tail = tail
        self._watcher = watcher

    # The stubs know generators only; writing to the context is the other documented way.
    async def Follow(self, request: events_pb2.FollowEventsRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Write a snapshot, then each change, as long as the client stays."""
        cursor = Cursor.parse("cursor", request.cursor) if request.cursor else None
        with self._database.one_incarnation() as unchanged, self._watcher.promised() as leaving:
            sessions: list[int] | None = None
            if request.session_ids:
                for session_id in request.session_ids:
                    check_identifier("session_ids", session_id)
                sessions = [(await self._sessions.find(session_id)).session_no for session_id in request.session_ids]
            follower = EventsFollower(self._database, self._log, self._tail, sessions, unchanged, leaving)
            async with aclosing(follower.follow(cursor, with_snapshot=not request.without_snapshot)) as all_tidings:
                async for tidings in all_tidings:
                    await _write(context, tidings)


async def _write(context: Context, tidings: Tidings) -> None:
    """Write in messages of bounded size; the last one has the cursor."""
    messages = list(event_batches(tidings.changes))
    for place, message in enumerate(messages, 1):
        message.snapshot = tidings.snapshot
        if place == 1:
            message.restarted = tidings.restarted
        if place == len(messages):
            message.snapshot_ends = tidings.snapshot_ends
            message.cursor = "" if tidings.cursor is None else str(tidings.cursor)
        await context.write(message)
        await asyncio.sleep(0)  # others have their turn between two large messages
