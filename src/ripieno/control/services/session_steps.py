"""The calls of the Sessions service that take a step of a session's life."""

from typing import Any

import grpc.aio

from ripieno.control.upkeep.lives import Lives
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.statuses import SessionStep
from ripieno.wire.protos.v1 import sessions_pb2, sessions_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

# The method names below are the protocol's.
# ruff: noqa: N802


class SessionSteps(sessions_pb2_grpc.SessionsServicer):
    """Implements the steps; each replies with the session as it is afterwards."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives

    async def described(self, session_id: str) -> sessions_pb2.Session:
        """Return the message of a session with the counts of its tasks.

        Raises:
            NotFoundError: there is no such session.
        """
        raise NotImplementedError

    async def Pause(self, request: sessions_pb2.SessionId, context: Context) -> sessions_pb2.Session:
        """Pause a session: nothing new is claimed from the reply on."""
        return await self._step(request, SessionStep.PAUSE)

    async def Resume(self, request: sessions_pb2.SessionId, context: Context) -> sessions_pb2.Session:
        """Resume a session that was paused."""
        return await self._step(request, SessionStep.RESUME)

    async def Close(self, request: sessions_pb2.SessionId, context: Context) -> sessions_pb2.Session:
        """Close a session: it takes no more tasks, and those that it has end."""
        return await self._step(request, SessionStep.CLOSE)

    async def Cancel(self, request: sessions_pb2.SessionId, context: Context) -> sessions_pb2.Session:
        """Cancel a session and its unfinished tasks; reply when none of its cancelled attempts can begin any more."""
        return await self._step(request, SessionStep.CANCEL)

    async def Purge(self, request: sessions_pb2.SessionId, context: Context) -> sessions_pb2.Session:
        """Purge a session: its data goes from the reply on, its rows stay."""
        return await self._step(request, SessionStep.PURGE)

    async def StopSubmission(
        self, request: sessions_pb2.StopSubmissionRequest, context: Context
    ) -> sessions_pb2.Session:
        """Stop submission by clients, by workers or both, for good."""
        check_identifier("session_id", request.session_id)
        if not (request.client or request.worker):
            raise InvalidRequestError("client", "is not set, nor is worker; say whose submission is to stop")
        await self._lives.stop_submission(request.session_id, client=request.client, worker=request.worker)
        return await self.described(request.session_id)

    async def Delete(self, request: sessions_pb2.SessionId, context: Context) -> sessions_pb2.DeleteReply:
        """Delete a session: it is gone with the reply; its rows go from then on."""
        check_identifier("session_id", request.session_id)
        await self._lives.step(request.session_id, SessionStep.DELETE)
        return sessions_pb2.DeleteReply()

    async def _step(self, request: sessions_pb2.SessionId, step: SessionStep) -> sessions_pb2.Session:
        check_identifier("session_id", request.session_id)
        await self._lives.step(request.session_id, step)
        return await self.described(request.session_id)
