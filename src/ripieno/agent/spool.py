"""Large data on this agent's disk: read from the control plane once, shared by attempts."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from pathlib import Path

import grpc.aio

from ripieno.agent.attempt import Spooled
from ripieno.agent.channels import describe, reraise_own_cancellation
from ripieno.agent.link import Link
from ripieno.domain.data import StoredObject
from ripieno.objects import prove
from ripieno.wire.protos.v1 import agent_pb2

#: Files that nobody reads are kept up to this sum, for the next attempt that may.
IDLE_BYTES = 1024 * 1024 * 1024
#: Written to disk in blocks, a trip to a thread each.
_BLOCK_BYTES = 1024 * 1024
_RETRY_S = 0.2

_log = logging.getLogger(__name__)


class ObjectGoneError(Exception):
    """The object store has no such object, or not those bytes."""


class Spool:
    """Files of large data in one directory.

    ``open`` and ``close`` come in pairs; a file in use is never removed.

    Attributes:
        proven: The directory, with a proof for workers.
    """

    def __init__(self, directory: Path, link: Link) -> None:
        self.proven = prove(directory, "proof")
        self._directory = directory
        self._link = link
        self._files: dict[str, Spooled] = {}
        self._idle: OrderedDict[str, Spooled] = OrderedDict()
        self._idle_bytes = 0
        self._number = 0
        self._reading: dict[str, asyncio.Lock] = {}

    async def open(self, stored: StoredObject) -> Spooled:
        """The file of an object; it is read from the store unless it is here.

        Waits for the control plane while that cannot be reached.

        Raises:
            ObjectGoneError: the store does not have it.
            OSError: the disk is full.
        """
        lock = self._reading.setdefault(stored.name, asyncio.Lock())
        async with lock:
            file = self._files.get(stored.name)
            if file is None:
                file = await self._read(stored)
                self._files[stored.name] = file
            if self._idle.pop(stored.name, None) is not None:
                self._idle_bytes -= file.size
            file.users += 1
        if not lock.locked():
            self._reading.pop(stored.name, None)
        return file

    def close(self, file: Spooled, *, keep: bool) -> None:
        """The file is no longer read; ``keep`` it for others if there is room."""
        file.users -= 1
        if file.users:
            return
        self._idle[file.name] = file
        self._idle_bytes += file.size
        if not keep:
            self._remove(file)
        while self._idle_bytes > IDLE_BYTES:
            self._remove(next(iter(self._idle.values())))

    def _remove(self, file: Spooled) -> None:
        del self._idle[file.name], self._files[file.name]
        self._idle_bytes -= file.size
        file.path.unlink(missing_ok=True)

    async def _read(self, stored: StoredObject) -> Spooled:
        # The object's name is the store's own business and need not be a file name.
        self._number += 1
        path = self._directory / f"object-{self._number}"
        try:
            while True:
                try:
                    await self._copy(stored, path)
                    return Spooled(stored.name, path, stored.size)
                except (grpc.RpcError, asyncio.CancelledError) as error:
                    reraise_own_cancellation()
                    if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.NOT_FOUND:
                        raise ObjectGoneError(f"object {stored.name!r}: {error.details()}") from error
                    _log.warning("reading object %r: %s; trying again", stored.name, describe(error))
                await asyncio.sleep(_RETRY_S)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def _copy(self, stored: StoredObject, path: Path) -> None:
        call = (await self._link.stub()).ReadObject(agent_pb2.ReadObjectRequest(name=stored.name))
        written, block = 0, bytearray()
        with path.open("wb", buffering=0) as file:
            async for chunk in call:
                block += chunk.data
                if len(block) >= _BLOCK_BYTES:
                    written += await asyncio.to_thread(file.write, block)
                    block = bytearray()
            written += await asyncio.to_thread(file.write, block)
        if written != stored.size:
            raise ObjectGoneError(f"object {stored.name!r} has {written} bytes instead of {stored.size}")
