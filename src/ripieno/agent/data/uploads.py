"""Uploads of large data from a worker to the object store, in bounded memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc.aio

from ripieno.agent.scheduling.faults import AGAIN_AFTER_S, is_refusal
from ripieno.agent.transport.channels import describe, reraise_own_cancellation
from ripieno.agent.uplink.link import Link
from ripieno.domain.data import StoredObject
from ripieno.domain.errors import UnavailableError
from ripieno.objects import FileWriter
from ripieno.wire.protos.v1 import agent_pb2

#: Most chunks of an upload that wait to be written; each is at most data_chunk_max_size long.
_WAITING_CHUNKS = 8
#: Approximate size of messages, to which chunks are joined.
_MESSAGE_BYTES = 256 * 1024
_log = logging.getLogger(__name__)


class UploadError(Exception):
    """An object could not be written.

    Attributes:
        attempt_at_fault: Whether the attempt has to fail. False if the control plane went away in the
            middle, or had no room: the attempt may run again elsewhere.
    """

    def __init__(self, detail: str, *, attempt_at_fault: bool) -> None:
        super().__init__(detail)
        self.attempt_at_fault = attempt_at_fault


class Upload:
    """One object that is being written. ``put`` waits while the network or the disk is behind.

    Args:
        link: The connection to the control plane, with the directory for objects if it can be reached.
        tasks: The group in which the upload runs.
        on_stored: Called with the name, size and hash of the object once it is stored.
        on_failed: Called if it cannot be stored. Neither is called after ``abort``.
    """

    def __init__(
        self,
        link: Link,
        tasks: asyncio.TaskGroup,
        on_stored: Callable[[StoredObject], None],
        on_failed: Callable[[UploadError], None],
    ) -> None:
        self._link = link
        self._on_stored = on_stored
        self._on_failed = on_failed
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING_CHUNKS)
        self._ended = False
        self._task = tasks.create_task(self._run())

    async def put(self, data: bytes | None) -> None:
        """Write the next chunk; None ends the object. No-op once the upload has failed or was aborted."""
        if not self._ended:
            await self._chunks.put(data)

    def abort(self) -> None:
        """Cancel the upload, whose object is no longer wanted; a waiting ``put`` returns."""
        self._task.cancel()
        self._end()

    async def _run(self) -> None:
        directory = self._link.objects
        try:
            stored = await (self._send() if directory is None else self._write(Path(directory.path)))
        except (grpc.RpcError, UnavailableError, asyncio.CancelledError) as error:
            reraise_own_cancellation()
            self._end()
            failure = _upload_error(error)
            if not failure.attempt_at_fault:
                await asyncio.sleep(AGAIN_AFTER_S)
            self._on_failed(failure)
        except Exception as error:  # noqa: BLE001 - a bug here ends this attempt alone
            self._end()
            _log.error("an upload failed by a bug of the agent", exc_info=error)
            self._on_failed(UploadError(f"its data could not be stored: {error!r}", attempt_at_fault=True))
        else:
            self._end()
            self._on_stored(stored)

    async def _write(self, directory: Path) -> StoredObject:
        chunks = self._chunks
        async with FileWriter(directory, await self._link.names.take()) as writer:
            while (chunk := await chunks.get()) is not None:
                await writer.write(chunk)
        return writer.stored

    async def _send(self) -> StoredObject:
        stored = await (await self._link.stub()).WriteObject(self._messages())
        return StoredObject(stored.name, stored.size, stored.sha256)

    async def _messages(self) -> AsyncIterator[agent_pb2.ObjectChunk]:
        chunks = self._chunks
        while (chunk := await chunks.get()) is not None:
            joined = [chunk]
            size = len(chunk)
            ended = False
            while size < _MESSAGE_BYTES and not chunks.empty():
                more = chunks.get_nowait()
                if more is None:
                    ended = True
                    break
                joined.append(more)
                size += len(more)
            yield agent_pb2.ObjectChunk(data=b"".join(joined))
            if ended:
                return

    def _end(self) -> None:
        self._ended = True
        # Each get wakes one waiting put; later calls of put see `_ended`.
        while not self._chunks.empty():
            self._chunks.get_nowait()


def _upload_error(error: BaseException) -> UploadError:
    detail = str(error) if isinstance(error, UnavailableError) else describe(error)
    return UploadError(f"its data could not be stored: {detail}", attempt_at_fault=is_refusal(error))
