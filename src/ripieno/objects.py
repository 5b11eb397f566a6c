"""Writing large data as objects, for the control plane, agents and workers.

An object is written once, by one writer, under a fresh name that was noted before (see
``ripieno.store.cluster.objects``); nobody reads it before a transaction has linked it. So a file needs no
temporary name while it is written, and the remains of a broken write are garbage that is noted.
"""

import asyncio
import errno
import hashlib
import os
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.domain.errors import UnavailableError

#: Data is written in pieces of at least this size: less is held back and joined with what follows. Written
#: one by one, chunks of 84,000 bytes took 1.6 ms of processor time a MiB, joined they take 1.05 ms.
PIECE_BYTES = 1024 * 1024


def fresh_name() -> str:
    """Return a name that no object ever had."""
    name = uuid4().hex
    return f"{name[:2]}/{name}"  # many small directories instead of one large one


def make_folders(directory: Path) -> None:
    """Make the 256 folders in which objects lie below `directory`, so that no writer has to make them."""
    for number in range(256):
        (directory / f"{number:02x}").mkdir(exist_ok=True)
    _sync_directory(directory)


def prove(directory: Path, file: str) -> ObjectDirectory:
    """Write a fresh proof file into a directory, by which other processes recognise that they see the same one.

    Args:
        directory: The object store's directory.
        file: Name of the proof file.

    Raises:
        OSError: if the file cannot be written.
    """
    proof = secrets.token_hex(16)
    (directory / file).write_text(proof)
    return ObjectDirectory(str(directory.absolute()), file, proof)


def is_readable(directory: ObjectDirectory) -> bool:
    """Whether the directory at that path, as this process sees it, is the very one that `prove` described."""
    try:
        return (Path(directory.path) / directory.proof_file).read_text() == directory.proof
    except (OSError, UnicodeError):
        return False


def is_writable(directory: ObjectDirectory) -> bool:
    """Whether this process sees that very directory, owns it, and may write into it."""
    if not is_readable(directory):
        return False
    path = Path(directory.path)
    try:
        # The directory has to be ours: the control plane could not delete what another user writes.
        return path.stat().st_uid == os.geteuid() and os.access(path, os.W_OK | os.X_OK)
    except OSError:
        return False


class ObjectFile:
    """An object that is written as a file below a directory.

    The methods block. They may be called in different threads, one after the other; ``discard``
    may be called at any time.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._path = directory / name
        #: Held by the thread that uses the file: a file must not be closed while it is written to.
        self._lock = threading.Lock()
        self._file: int | None = None
        #: Whether we have made the file, so that we may delete it.
        self._begun = False
        self._closed = False

    def append(self, piece: bytes | bytearray | memoryview) -> None:
        """Append `piece` to the object; does nothing once the object is discarded.

        Raises:
            OSError: if the file cannot be made or written.
        """
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                self._file = self._open()
                self._begun = True
            left = memoryview(piece)
            while left:
                left = left[os.write(self._file, left) :]

    def finish(self) -> None:
        """Sync the file and its directory entry to the disk; does nothing once the object is discarded.

        This costs 0.3 ms for 1 MiB where two objects are written at a time (measured).

        Raises:
            OSError: if the disk is full, or fails.
        """
        self.append(b"")
        with self._lock:
            if self._file is None:
                return
            os.fsync(self._file)
            self._close()
        _sync_directory(self._path.parent)

    def discard(self) -> None:
        """Close and delete the file. If the disk refuses, the file stays as garbage, which is noted."""
        with self._lock, suppress(OSError):
            self._close()
        if self._begun:
            with suppress(OSError):
                self._path.unlink()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(self._path, flags, 0o666)
        except FileNotFoundError:
            self._path.parent.mkdir(exist_ok=True)
            _sync_directory(self._path.parent.parent)
            return os.open(self._path, flags, 0o666)

    def _close(self) -> None:
        self._closed = True
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class ObjectWriter(ABC):
    """Writes one object in bounded memory; an async context manager.

    At most two pieces are in memory: one that is being written while the next one gathers. Once
    the context has ended without an error, the object is durable; if it ends with an error,
    nothing is left of the object but its note.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._size = 0
        self._digest = hashlib.sha256()
        self._held: list[bytes] = []
        self._held_bytes = 0
        #: Done once the piece under way is written and digested.
        self._written: asyncio.Future[Any] | None = None

    async def write(self, data: bytes) -> None:
        """Append `data`; waits, once a piece is full, until the piece before is written (back-pressure).

        Raises:
            UnavailableError: if the object store does not take the data; safe to try again.
        """
        self._size += len(data)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= PIECE_BYTES:
            piece = self._take_held()
            await self._settle()
            # Digest and write both release the interpreter's lock. The digest of a MiB takes 0.6 ms, longer
            # than an event loop should stand still.
            digested = asyncio.get_running_loop().run_in_executor(None, self._digest.update, piece)
            self._written = asyncio.gather(digested, self._append(piece))

    @property
    def size(self) -> int:
        """How many bytes were appended."""
        return self._size

    @property
    def stored(self) -> StoredObject:
        """The object's name, size and digest; complete once the context has ended."""
        return StoredObject(self._name, self._size, self._digest.digest())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await self._discard()
            return
        try:
            await self._settle()
            await self._finish(self._take_held())
        except BaseException as failure:
            await self._discard()
            if isinstance(failure, Exception):
                raise store_fault("the object store takes no data", failure) from failure
            raise

    @abstractmethod
    def _append(self, piece: bytes) -> Awaitable[None]:
        """Begin to write `piece`, and return an awaitable that is done when it is written; called one at a time."""

    @abstractmethod
    async def _finish(self, piece: bytes) -> None:
        """Write and digest the last piece, and make the object durable."""

    @abstractmethod
    async def _abandon(self) -> None:
        """Delete what was written of the object, as far as that is possible."""

    async def _discard(self) -> None:
        try:
            if self._written is not None:
                await asyncio.gather(self._written, return_exceptions=True)
        finally:
            await self._abandon()

    async def _settle(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            try:
                await written
            except Exception as error:
                raise store_fault("the object store takes no data", error) from error

    def _take_held(self) -> bytes:
        held, self._held, self._held_bytes = self._held, [], 0
        return held[0] if len(held) == 1 else b"".join(held)


#: Errors of a disk without room, or one that may not be written to -> how a message says so.
_FULL_DISK = {errno.ENOSPC: "is full", errno.EDQUOT: "is full for this user (quota)", errno.EROFS: "is read-only"}


def store_fault(what: str, error: Exception) -> UnavailableError:
    """Turn a failure of the object store into an UnavailableError: our fault, safe to try again; names a full disk.

    Args:
        what: What the object store does not do, for instance "the object store takes no data".
        error: The failure; returned as it is if it is an UnavailableError already.
    """
    if isinstance(error, UnavailableError):
        return error
    for number, words in _FULL_DISK.items():
        if getattr(error, "errno", None) == number or f"os error {number}" in str(error):
            return UnavailableError(f"{what}: its disk {words}; make room there, then try again ({error})")
    return UnavailableError(f"{what}: {error}")


class FileWriter(ObjectWriter):
    """Writes an object that is a file below a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(name)
        self._file = ObjectFile(directory, name)

    def _append(self, piece: bytes) -> Awaitable[None]:
        return asyncio.get_running_loop().run_in_executor(None, self._file.append, piece)

    async def _finish(self, piece: bytes) -> None:
        await asyncio.to_thread(self._finish_in_thread, piece)

    async def _abandon(self) -> None:
        # The waiting task may be cancelled once more; the file must be deleted all the same.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._file.discard))

    def _finish_in_thread(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._file.append(piece)
        self._file.finish()
