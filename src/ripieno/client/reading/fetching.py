"""Fetching the bytes of completed results, in bounded memory."""

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.client.connection.cutting import can_be_cut
from ripieno.client.connection.object_files import read_file
from ripieno.client.terms.errors import from_rpc, task_failure
from ripieno.domain.data import StoredObject
from ripieno.domain.errors import LimitError, UnavailableError
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.protos.v1 import results_pb2

_LOG = logging.getLogger("ripieno.client")

#: Chunks are joined to pieces of this size, each of which crosses threads once in a blocking
#: client and once more on its way to a file: passing on every chunk of 84,000 bytes by itself
#: took the client 2.4 ms of processor time a MiB, joining them first 1.4 to 2.0 ms.
_PIECE_BYTES = 1024 * 1024

#: Keys to a call: 1,000 keys of 1,024 bytes are still a message of 1 MiB.
_KEYS_A_CALL = 1_000


class Wanted(NamedTuple):
    """A completed result whose bytes are wanted, and the object that holds them, if that is known."""

    key: str
    stored: StoredObject | None = None


class Piece(NamedTuple):
    """The next bytes of a result; ``complete`` is true for the last of them."""

    data: bytes
    complete: bool


async def read_results(
    connection: Connection, session_id: str, wanted: Sequence[Wanted]
) -> AsyncGenerator[Piece, None]:
    """Yield the bytes of completed results, one after the other, in pieces of about 1 MiB.

    Results in an object store that is readable here are read there, the others are sent. When the
    connection breaks, missing bytes are asked for again: those of a completed result never change (INV-3).

    Raises:
        TaskFailedError: a result was aborted.
        RipienoError: a result is unknown, or no server answered.
    """
    patience = connection.patience("fetch a result")
    left, received, keys_a_call = deque(wanted), 0, _KEYS_A_CALL
    while left:
        of_ours = connection.reads_results  # other calls may set it to False while this one is under way
        read, count = _next_read(connection, session_id, left, received, keys_a_call)
        try:
            async with aclosing(read) as pieces:
                async for piece in pieces:
                    patience.renew()
                    received += len(piece.data)
                    if piece.complete:
                        left.popleft()
                        count -= 1
                        received = 0
                    yield piece
            if count:
                await patience.pause(UnavailableError(f"it ended result {left[0].key!r} early"))
        except OSError as error:
            _LOG.warning(
                "result %r cannot be read in place: %s; large results are sent from here on", left[0].key, error
            )
            connection.objects.give_up()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED and of_ours:
                connection.reads_results = False  # the protocol's own call serves instead
            elif count > 1 and isinstance(failure := from_rpc(error), LimitError) and can_be_cut(failure):
                keys_a_call = count // 2
            elif count:
                await patience.pause(error)


def _next_read(
    connection: Connection, session_id: str, left: Sequence[Wanted], offset: int, keys_a_call: int
) -> tuple[AsyncGenerator[Piece, None], int]:
    """Begin the best kind of read for the first of these results; also return how many results it brings."""
    key, stored = left[0]
    path = connection.objects.path(stored)
    if stored is not None and path is not None:
        return _read_in_place(path, stored.size, offset), 1
    if not connection.reads_results:
        return _stream_result(connection, session_id, key, offset), 1
    to_send = takewhile(lambda each: connection.objects.path(each.stored) is None, left)
    keys = [each.key for each in islice(to_send, keys_a_call)]
    return _read_results(connection, session_id, keys, offset), len(keys)


async def _read_in_place(path: Path, size: int, offset: int) -> AsyncGenerator[Piece, None]:
    async with aclosing(read_file(path, size, offset)) as pieces:
        async for data in pieces:
            offset += len(data)
            yield Piece(data, offset == size)


async def _read_results(
    connection: Connection, session_id: str, keys: Sequence[str], offset: int
) -> AsyncGenerator[Piece, None]:
    request = results_pb2.ReadRequest(session_id=session_id, keys=keys, offset=offset)
    call = connection.results.Read(request)
    unread = iter(keys)
    key = next(unread)
    try:
        async for reply in call:
            if reply.HasField("error"):
                raise task_failure(key, reply.error)
            yield Piece(reply.data, reply.complete)
            if reply.complete:
                key = next(unread, "")
    finally:
        call.cancel()


async def _stream_result(connection: Connection, session_id: str, key: str, offset: int) -> AsyncGenerator[Piece, None]:
    """Yield one result from ``offset`` on with the protocol's own call, which sends it from its beginning."""
    call = connection.submitter.TryGetResultStream(objects_pb2.ResultRequest(session=session_id, key=key))
    held, held_bytes = list[bytes](), 0
    try:
        async for reply in call:
            kind = reply.WhichOneof("type")
            if kind == "error":
                raise task_failure(key, reply.error)
            if kind != "result":
                break
            if reply.result.WhichOneof("type") == "data_complete":
                yield Piece(b"".join(held), complete=True)
                return
            chunk = reply.result.data
            known = min(offset, len(chunk))
            offset -= known
            held.append(chunk[known:])
            held_bytes += len(chunk) - known
            if held_bytes >= _PIECE_BYTES:
                data, held, held_bytes = b"".join(held), [], 0
                yield Piece(data, complete=False)
    finally:
        call.cancel()


async def fetch_chunks(connection: Connection, session_id: str, wanted: Wanted) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a completed result, in order, in pieces of about 1 MiB; errors as in ``read_results``."""
    async with aclosing(read_results(connection, session_id, [wanted])) as pieces:
        async for piece in pieces:
            if piece.data:
                yield piece.data


async def fetch_all(connection: Connection, session_id: str, wanted: Sequence[Wanted]) -> AsyncGenerator[bytes, None]:
    """Yield all bytes of each of these completed results, in order; errors as in ``read_results``."""
    held: list[bytes] = []
    async with aclosing(read_results(connection, session_id, wanted)) as pieces:
        async for data, complete in pieces:
            held.append(data)
            if complete:
                whole, held = held[0] if len(held) == 1 else b"".join(held), []
                yield whole


async def fetch(connection: Connection, session_id: str, wanted: Wanted) -> bytes:
    """Return all bytes of a completed result; errors as in ``read_results``."""
    async with aclosing(fetch_all(connection, session_id, [wanted])) as fetched:
        return await anext(fetched)


async def save(chunks: AsyncIterator[bytes], path: Path) -> int:
    """Write chunks to a file and return its size.

    The file appears whole or not at all: it is written under a temporary name in the same
    folder and renamed at the end.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    size = 0
    opening = asyncio.get_running_loop().run_in_executor(None, partial.open, "wb")
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # The thread still opens the file, which nobody else would close and remove.
        opening.add_done_callback(lambda opened: _discard(opened, partial))
        raise
    try:
        try:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
                size += len(chunk)
        finally:
            await asyncio.to_thread(file.close)
        await asyncio.to_thread(os.replace, partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return size


def _discard(opened: "asyncio.Future[Any]", path: Path) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()
        path.unlink(missing_ok=True)
