"""Calls that take a step of a session's life; servers of other kinds do not have them."""

from collections.abc import Awaitable, Callable

from ripieno.client.connection.connection import Connection
from ripieno.domain.errors import SessionCancelledError, SessionStepError
from ripieno.domain.statuses import SessionStatus
from ripieno.wire.protos.v1 import sessions_pb2, sessions_pb2_grpc


def _stub(connection: Connection) -> "sessions_pb2_grpc.SessionsAsyncStub":
    stub: sessions_pb2_grpc.SessionsAsyncStub = connection.stub(sessions_pb2_grpc.SessionsStub)
    return stub


async def pause(connection: Connection, session_id: str) -> SessionStatus:
    """Pause a session; return its status."""
    return await _step(connection, "pause the session", _stub(connection).Pause, session_id)


async def resume(connection: Connection, session_id: str) -> SessionStatus:
    """Resume a session; return its status."""
    return await _step(connection, "resume the session", _stub(connection).Resume, session_id)


async def close(connection: Connection, session_id: str) -> SessionStatus:
    """Close a session; return its status."""
    return await _step(connection, "close the session", _stub(connection).Close, session_id)


async def purge(connection: Connection, session_id: str) -> SessionStatus:
    """Purge a session; return its status."""
    return await _step(connection, "purge the session", _stub(connection).Purge, session_id)


async def stop_submission(connection: Connection, session_id: str, *, clients: bool, workers: bool) -> None:
    """Stop submission by clients, by workers or both, for good."""
    request = sessions_pb2.StopSubmissionRequest(session_id=session_id, client=clients, worker=workers)
    await connection.call("stop submission to the session", _stub(connection).StopSubmission, request)


async def delete(connection: Connection, session_id: str) -> None:
    """Delete a session."""
    request = sessions_pb2.SessionId(session_id=session_id)
    await connection.call("delete the session", _stub(connection).Delete, request)


async def _step(
    connection: Connection,
    purpose: str,
    method: Callable[[sessions_pb2.SessionId], Awaitable[sessions_pb2.Session]],
    session_id: str,
) -> SessionStatus:
    try:
        reply = await connection.call(purpose, method, sessions_pb2.SessionId(session_id=session_id))
    except SessionCancelledError as error:  # what this code means for a submission
        raise SessionStepError(error.detail) from error
    return SessionStatus[reply.status]
