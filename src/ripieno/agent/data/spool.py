"""Large data on this agent's disk: read from the control plane once, shared by attempts."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import grpc.aio

from ripieno.agent.attempts.attempt import Spooled
from ripieno.agent.data.disk import Scratch, write_all
from ripieno.agent.scheduling.faults import MachineFaultError, is_refusal
from ripieno.agent.transport.channels import describe, reraise_own_cancellation
from ripieno.agent.uplink.link import Link
from ripieno.background import Setback
from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.domain.errors import UnavailableError
from ripieno.wire.protos.v1 import agent_pb2

#: Files that nobody reads are kept up to this sum, for the next attempt that may.
IDLE_BYTES = 1024 * 1024 * 1024
#: Written to disk in blocks, a trip to a thread each.
_BLOCK_BYTES = 1024 * 1024
#: Objects that are copied at once; each holds a few MiB on its way.
_COPIES = 4


class ObjectGoneError(Exception):
    """The object store has no such object, or not those bytes, or it is too large for any agent here."""


class Spool:
    """Files of large data in one directory.

    ``open`` and ``close`` come in pairs; a file in use is never removed by us. One that somebody
    else has removed is noticed when it is opened the next time, and read again.
    """

    def __init__(self, scratch: Scratch, link: Link) -> None:
        self._scratch = scratch
        self._link = link
        self._files: dict[str, Spooled] = {}
        self._idle: OrderedDict[str, Spooled] = OrderedDict()
        self._idle_bytes = 0
        self._number = 0
        self._reading: dict[str, asyncio.Lock] = {}
        self._copies = asyncio.Semaphore(_COPIES)
        self._setback = Setback("reading objects from the control plane")

    @property
    def proven(self) -> ObjectDirectory:
        """The directory, with a proof for workers."""
        return self._scratch.proven

    async def open(self, stored: StoredObject) -> Spooled:
        """The file of an object; it is read from the store unless it is here, whole.

        Waits for the control plane while that cannot be reached.

        Raises:
            ObjectGoneError: the store does not have it, or the whole disk is smaller than it is.
            MachineFaultError: the disk has no room, or does not work.
        """
        lock = self._reading.setdefault(stored.name, asyncio.Lock())
        try:
            async with lock:
                file = self._files.get(stored.name)
                if file is not None and not await asyncio.to_thread(_is_whole, file):
                    self._forget(file)
                # Nobody held it while it was looked at: it may have been removed to make room.
                file = self._files.get(stored.name)
                if file is None:
                    file = self._files[stored.name] = await self._read(stored)
                if self._idle.pop(stored.name, None) is not None:
                    self._idle_bytes -= file.size
                file.users += 1
                return file
        finally:
            if not lock.locked():
                self._reading.pop(stored.name, None)

    async def keep(self, data: bytes) -> Spooled:
        """Put inline data of one attempt into a file of its own.

        Raises:
            MachineFaultError: the disk has no room, or does not work.
        """
        self._number += 1
        path = self._scratch.path / f"inline-{self._number}"
        try:
            await asyncio.to_thread(path.write_bytes, data)
        except OSError as error:
            _unlink(path)
            await self._scratch.serves_after(error)
            raise MachineFaultError(f"{path}: {error.strerror or error}") from error
        return Spooled(path.name, path, len(data), users=1)

    def close(self, file: Spooled, *, keep: bool) -> None:
        """The file is no longer read; ``keep`` it for others if there is room."""
        file.users -= 1
        if file.users:
            return
        if self._files.get(file.name) is not file:
            _unlink(file.path)  # one attempt's own, or it was found missing, and another one has its place
            return
        self._idle[file.name] = file
        self._idle_bytes += file.size
        if not keep:
            self._remove(file)
        while self._idle_bytes > IDLE_BYTES:
            self._remove(next(iter(self._idle.values())))

    def _forget(self, file: Spooled) -> None:
        """Somebody has removed the file, or a part of it; whoever reads it closes it all the same."""
        if self._files.get(file.name) is not file:
            return  # whoever closed it meanwhile has removed it
        del self._files[file.name]
        if self._idle.pop(file.name, None) is not None:
            self._idle_bytes -= file.size
            _unlink(file.path)

    def _remove(self, file: Spooled) -> None:
        del self._idle[file.name], self._files[file.name]
        self._idle_bytes -= file.size
        _unlink(file.path)

    async def _read(self, stored: StoredObject) -> Spooled:
        async with self._copies:
            await self._make_room(stored)
            # The object's name is the store's own business and need not be a file name.
            self._number += 1
            path = self._scratch.path / f"object-{self._number}"
            try:
                await self._copy_surely(stored, path)
            except BaseException:
                _unlink(path)
                raise
            return Spooled(stored.name, path, stored.size)

    async def _make_room(self, stored: StoredObject) -> None:
        try:
            free, total = await self._scratch.room()
        except OSError:
            return  # what is wrong is met, and told, when the file is written
        if stored.size > total:
            raise ObjectGoneError(
                f"object {stored.name!r} has {stored.size} bytes, more than the disk of {self._scratch.path} ({total})"
            )
        while stored.size > free and self._idle:
            file = next(iter(self._idle.values()))
            self._remove(file)
            free += file.size
        if stored.size > free:
            raise MachineFaultError(f"{self._scratch.path} has room for {free} bytes, not for {stored.size}")

    async def _copy_surely(self, stored: StoredObject, path: Path) -> None:
        restored = False
        while True:
            try:
                await self._copy(stored, path)
            except OSError as error:
                serves = await self._scratch.serves_after(error)
                if restored or not serves or not isinstance(error, FileNotFoundError):
                    raise MachineFaultError(f"{path}: {error.strerror or error}") from error
                restored = True  # the directory was gone, and is here again
            except (grpc.RpcError, asyncio.CancelledError) as error:
                reraise_own_cancellation()
                if is_refusal(error):
                    raise ObjectGoneError(f"object {stored.name!r}: {describe(error)}") from error
                await asyncio.sleep(self._setback.note(UnavailableError(describe(error))))
            else:
                self._setback.over()
                return

    async def _copy(self, stored: StoredObject, path: Path) -> None:
        call = (await self._link.stub()).ReadObject(agent_pb2.ReadObjectRequest(name=stored.name))
        written, block = 0, bytearray()
        try:
            with path.open("wb", buffering=0) as file:
                async for chunk in call:
                    block += chunk.data
                    if len(block) >= _BLOCK_BYTES:
                        await asyncio.to_thread(write_all, file, block)
                        written += len(block)
                        block = bytearray()
                await asyncio.to_thread(write_all, file, block)
                written += len(block)
        finally:
            call.cancel()  # what is left of it, where the disk did not take it
        if written != stored.size:
            raise ObjectGoneError(f"object {stored.name!r} has {written} bytes instead of {stored.size}")


def _is_whole(file: Spooled) -> bool:
    try:
        return file.path.stat().st_size == file.size
    except OSError:
        return False


def _unlink(path: Path) -> None:
    with suppress(OSError):  # what cannot be removed goes with the whole directory at the end
        path.unlink()
