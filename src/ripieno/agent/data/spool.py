"""The spool: large data on this agent's disk, read from the control plane once and shared by attempts."""

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

#: Most bytes of files that no attempt reads, which are kept for later attempts.
IDLE_BYTES = 1024 * 1024 * 1024
#: Size of the blocks in which files are written, each with one trip to a thread.
_BLOCK_BYTES = 1024 * 1024
#: Most objects that are copied at once; each copy takes a few MiB of memory.
_COPIES = 4


class ObjectGoneError(Exception):
    """The object store lacks an object or has other bytes, or the object is larger than this machine's disk."""


class Spool:
    """Files of large data in the scratch directory.

    ``open`` and ``close`` come in pairs; the spool never removes a file in use. A file that another
    process has removed is noticed when it is opened the next time, and read again.
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
        """The scratch directory, with a proof for workers."""
        return self._scratch.proven

    async def open(self, stored: StoredObject) -> Spooled:
        """Return the file of an object, reading it from the store unless it is here, whole.

        Waits while the control plane cannot be reached.

        Raises:
            ObjectGoneError: if the store does not have the object, or the whole disk is smaller than it.
            MachineFaultError: if the disk has no room, or does not work.
        """
        lock = self._reading.setdefault(stored.name, asyncio.Lock())
        try:
            async with lock:
                file = self._files.get(stored.name)
                if file is not None and not await asyncio.to_thread(_is_whole, file):
                    self._forget(file)
                # Looked up again, because the file may have been removed to make room during the check above.
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
        """Write inline data of one attempt into a file of its own.

        Raises:
            MachineFaultError: if the disk has no room, or does not work.
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
        """Close a file that ``open`` or ``keep`` returned.

        Args:
            file: The file.
            keep: Whether to keep an object's file for later attempts, as far as ``IDLE_BYTES`` allow.
        """
        file.users -= 1
        if file.users:
            return
        if self._files.get(file.name) is not file:
            _unlink(file.path)  # it is one attempt's own, or was found missing and replaced by a new copy
            return
        self._idle[file.name] = file
        self._idle_bytes += file.size
        if not keep:
            self._remove(file)
        while self._idle_bytes > IDLE_BYTES:
            self._remove(next(iter(self._idle.values())))

    def _forget(self, file: Spooled) -> None:
        """Drop a file that another process removed or changed; attempts that have it open still close it."""
        if self._files.get(file.name) is not file:
            return  # it was closed and removed meanwhile
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
            # The file has a name of its own, because an object's name need not be a valid file name.
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
            return  # the error comes up again, and is reported, when the file is written
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
                restored = True  # the directory was gone and is made again, so the copy is tried once more
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
            call.cancel()  # after an error of the disk the rest of the object is not wanted
        if written != stored.size:
            raise ObjectGoneError(f"object {stored.name!r} has {written} bytes instead of {stored.size}")


def _is_whole(file: Spooled) -> bool:
    try:
        return file.path.stat().st_size == file.size
    except OSError:
        return False


def _unlink(path: Path) -> None:
    with suppress(OSError):  # a file that cannot be removed is removed with the directory at the end
        path.unlink()
