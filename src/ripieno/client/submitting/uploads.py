"""Results that the client itself makes: created, uploaded, and deleted.

An upload that breaks goes on from where the server has it safe, through any replica. A repeated creation whose
first reply was lost leaves a result behind that nobody names; it has no data, or up to 64 KiB.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.client.submitting.payloads import can_be_read_again, normal_payload, payload_chunks
from ripieno.client.terms.definitions import Payload
from ripieno.client.terms.errors import from_rpc
from ripieno.client.terms.handles import ResultHandle
from ripieno.domain.errors import OutcomeUnknownError
from ripieno.wire.protos.v1 import results_pb2

#: Data up to this size travels with the creation of its result.
_AT_ONCE_BYTES = 64 * 1024

_CHUNK_BYTES = 1024 * 1024

#: Keys in one call.
_KEYS_A_CALL = 10_000

#: Called with the number of bytes that are safe so far.
Progress = Callable[[int], None]
Source = bytes | Path | Iterable[bytes]


async def create(connection: Connection, session_id: str, names: Sequence[str]) -> list[ResultHandle]:
    """Create results without data, all or none.

    Raises:
        RipienoError: the server refused them, or no server answered.
    """
    return await _create(connection, session_id, [results_pb2.CreateResultsRequest.Entry(name=name) for name in names])


async def put(
    connection: Connection, session_id: str, data: Payload, name: str, progress: Progress | None
) -> ResultHandle:
    """Create a result with data, which are durable when this returns.

    Raises:
        RipienoError: the server refused the data, or no server answered.
        OutcomeUnknownError: the connection broke, and an iterator cannot be read a second time.
        OSError: the file cannot be read.
    """
    source = normal_payload(data)
    if isinstance(source, bytes) and len(source) <= _AT_ONCE_BYTES:
        entry = results_pb2.CreateResultsRequest.Entry(name=name, data=source)
        [result] = await _create(connection, session_id, [entry])
        if progress is not None:
            progress(len(source))
        return result
    [result] = await create(connection, session_id, [name])
    await upload(connection, session_id, result.key, source, progress)
    return result


async def upload(
    connection: Connection, session_id: str, key: str, data: Payload, progress: Progress | None = None
) -> None:
    """Upload the data of a result that was created without; it is durable when this returns.

    The server checks the size of files, and size and SHA-256 of bytes.

    Raises:
        RipienoError: the server refused the data, or no server answered.
        OutcomeUnknownError: the connection broke, and an iterator cannot be read a second time.
        OSError: the file cannot be read.
    """
    source = normal_payload(data)
    begin = results_pb2.UploadBegin(session_id=session_id, key=key, upload_id=str(uuid4()))
    if isinstance(source, bytes):
        begin.size, begin.sha256 = len(source), hashlib.sha256(source).digest()
    elif isinstance(source, Path):
        begin.size = (await asyncio.to_thread(source.stat)).st_size
    progress = _forwards(progress)
    patience = connection.patience("upload a result")
    while True:
        try:
            await _attempt(connection, begin, source, progress)
            return
        except grpc.aio.AioRpcError as error:
            failure = from_rpc(error)
            if failure.retry_is_safe and not can_be_read_again(source):
                raise OutcomeUnknownError(
                    f"the connection broke during the upload ({failure.detail}), and an iterator cannot be read twice;"
                    " pass a file, a list or bytes to have it sent again"
                ) from error
            await patience.pause(error)
        begin.offset = await _safe(connection, begin.upload_id)


async def delete_data(connection: Connection, session_id: str, keys: Sequence[str]) -> list[str]:
    """Delete the data of those of the results that are COMPLETED; return the keys whose data is gone now.

    Raises:
        RipienoError: the session is unknown, or no server answered.
    """
    deleted: list[str] = []
    for start in range(0, len(keys), _KEYS_A_CALL):
        request = results_pb2.DeleteDataRequest(session_id=session_id, keys=keys[start : start + _KEYS_A_CALL])
        reply = await connection.call("delete data of results", connection.results.DeleteData, request)
        deleted += reply.deleted_keys
    return deleted


async def _create(
    connection: Connection, session_id: str, entries: Sequence[results_pb2.CreateResultsRequest.Entry]
) -> list[ResultHandle]:
    request = results_pb2.CreateResultsRequest(session_id=session_id, entries=entries)
    reply = await connection.call("create results", connection.results.Create, request)
    return [ResultHandle(entry.key, entry.name) for entry in reply.entries]


def _forwards(progress: Progress | None) -> Progress | None:
    """Return a function that tells each amount once: a stream that goes on says anew how far it has come."""
    told = 0

    def tell(safe: int) -> None:
        nonlocal told
        if safe > told and progress is not None:
            told = safe
            progress(safe)

    return progress and tell


async def _attempt(
    connection: Connection, begin: results_pb2.UploadBegin, source: Source, progress: Progress | None
) -> None:
    call = connection.results.Upload()
    writing = asyncio.ensure_future(_write(call, begin, source))
    try:
        async for reply in call:
            if progress is not None and reply.offset:
                progress(reply.offset)
        await writing
    except asyncio.CancelledError:
        if writing.done() and not writing.cancelled() and (error := writing.exception()) is not None:
            raise error from None  # the source cannot be read, for which the call was cancelled
        raise
    finally:
        writing.cancel()
        call.cancel()


async def _write(call: Any, begin: results_pb2.UploadBegin, source: Source) -> None:
    try:
        await call.write(results_pb2.UploadRequest(begin=begin))
        async for chunk in _chunks_from(source, begin.offset):
            await call.write(results_pb2.UploadRequest(chunk=chunk))
        await call.write(results_pb2.UploadRequest(complete=True))
        await call.done_writing()
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return  # the server has answered already; reading brings its answer
    except BaseException:
        call.cancel()
        raise


async def _safe(connection: Connection, upload_id: str) -> int:
    """Return how many bytes of an upload are safe."""
    patience = connection.patience("continue an upload")
    while True:
        try:
            reply = await connection.results.QueryUpload(results_pb2.UploadId(upload_id=upload_id))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return 0
            await patience.pause(error)
        else:
            return reply.offset


async def _chunks_from(source: Source, offset: int) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        source = source[offset:]
    elif isinstance(source, Path):
        source = _file_from(source, offset)
    else:
        source = _rest(source, offset)
    async for chunk in payload_chunks(source, _CHUNK_BYTES):
        yield chunk


def _file_from(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _rest(source: Iterable[bytes], offset: int) -> Iterator[bytes]:
    for piece in source:
        if offset >= len(piece):
            offset -= len(piece)
        else:
            yield piece[offset:]
            offset = 0
