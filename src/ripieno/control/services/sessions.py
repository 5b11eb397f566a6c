"""The Sessions service."""

from typing import Any

import grpc.aio

from ripieno.control.services.pages import Pages
from ripieno.control.services.session_steps import SessionSteps
from ripieno.control.upkeep.lives import Lives
from ripieno.domain.catalogue import Listed
from ripieno.domain.identifiers import check_identifier
from ripieno.store.database.database import Database
from ripieno.store.reading.lists import Lists
from ripieno.store.sessions.counts import read_counts, read_usage
from ripieno.store.sessions.sessions import Sessions as KnownSessions
from ripieno.wire.protos.v1 import query_pb2, sessions_pb2

Context = grpc.aio.ServicerContext[Any, Any]

# The method names below are the protocol's.
# ruff: noqa: N802


class Sessions(SessionSteps):
    """Implements the Sessions service for clients; the steps of sessions' lives are those of ``SessionSteps``."""

    def __init__(self, database: Database, sessions: KnownSessions, lists: Lists, lives: Lives) -> None:
        super().__init__(lives)
        self._database = database
        self._sessions = sessions
        self._pages = Pages(lists, Listed.SESSIONS, sessions_pb2.Session, sessions_pb2.SessionPage, "sessions")

    async def List(self, request: query_pb2.Query, context: Context) -> sessions_pb2.SessionPage:
        """Return a page of the sessions."""
        return await self._pages.list(request)

    async def Count(self, request: query_pb2.Filter, context: Context) -> query_pb2.Total:
        """Return how many sessions match."""
        return await self._pages.count(request)

    async def Get(self, request: sessions_pb2.SessionId, context: Context) -> sessions_pb2.Session:
        """Return a session with the counts of its tasks."""
        check_identifier("session_id", request.session_id)
        return await self.described(request.session_id)

    async def described(self, session_id: str) -> sessions_pb2.Session:
        """Return the message of a session with the counts of its tasks.

        Raises:
            NotFoundError: there is no such session.
        """
        with self._database.one_incarnation():
            message = await self._pages.get(f"session {session_id!r} does not exist", id=session_id)
            session_no = (await self._sessions.find(session_id)).session_no
            for status, tasks in (await read_counts(self._database, [session_no])).items():
                message.tasks[status.name] = tasks
            message.stored_bytes = (await read_usage(self._database, session_no)).stored
        return message
