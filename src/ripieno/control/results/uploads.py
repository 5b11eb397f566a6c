"""One upload of a result's data: kept in memory while it is small, else written to the object store as it arrives.

What has arrived is made safe part by part (``store.results.uploads``). An upload that ends within its first part is linked
as it was written; the parts of a longer one are joined, in bounded memory, into one object, whose digest is checked.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import ConflictError, InvalidRequestError, UnavailableError
from ripieno.objects import ObjectWriter
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.store.results.uploads import UnderWay, end_upload, note_part

_log = structlog.get_logger(__name__)

#: Bytes after which what has arrived is made safe; whoever's stream breaks sends less than this again.
PART_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Expected:
    """What the data of an upload must be: its size and SHA-256, each None if the client did not say."""

    size: int | None
    sha256: bytes | None


class Receiving:
    """Receives the data of one upload. Use as ``async with``: what is not safe at the end is dropped.

    Args:
        upload: The upload, and what of it is safe already.
        expected: What the data must be.
        inline_limit_bytes: Data up to this size is kept in memory, and lies in the database.
        admit: Takes room in the session for a number of bytes, or raises the error that says why there is none.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        upload: UnderWay,
        expected: Expected,
        *,
        inline_limit_bytes: int,
        admit: Callable[[int], Awaitable[None]],
    ) -> None:
        self._database = database
        self._objects = objects
        self._upload = upload
        self._expected = expected
        self._inline_limit = inline_limit_bytes
        self._admit = admit
        self._inline = bytearray()
        self._writer: ObjectWriter | None = None
        self._size = upload.offset

    async def __aenter__(self) -> "Receiving":
        return self

    async def __aexit__(self, *_: object) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            error = UnavailableError("abandoned")
            await writer.__aexit__(type(error), error, None)

    async def write(self, data: bytes) -> bool:
        """Take more bytes; return whether more of the upload is safe than before.

        Raises:
            InvalidRequestError: there are more bytes than the client has announced.
            LimitError: the session has no room for them.
        """
        self._size += len(data)
        if self._expected.size is not None and self._size > self._expected.size:
            raise self._other_size()
        if self._writer is None:
            self._inline += data
            if len(self._inline) <= self._inline_limit:
                return False
            self._writer = await self._objects.writer()
            data = bytes(self._inline)
            self._inline.clear()
        await self._writer.write(data)
        if self._writer.size < PART_BYTES:
            return False
        await self._keep_part()
        return True

    async def finish(self) -> Data:
        """Return all of the data, checked: the bytes themselves, or an object that is staged.

        Raises:
            InvalidRequestError: size or digest are others than the client has announced. The upload is given up.
        """
        if self._expected.size is not None and self._size != self._expected.size:
            raise self._other_size()
        if not self._upload.parts and self._writer is None:
            data: Data = bytes(self._inline)
            await self._admit(self._size)
        elif not self._upload.parts:
            data = await self._close()
            await self._admit(self._size)
        else:
            if self._writer is not None or self._inline:
                await self._keep_part()
            data = await self._joined()
        digest = data.sha256 if isinstance(data, StoredObject) else hashlib.sha256(data).digest()
        if self._expected.sha256 is not None and digest != self._expected.sha256:
            await self.drop(data)
            await self.end()
            raise InvalidRequestError(
                "begin.sha256",
                f"{self._expected.sha256.hex()} is not that of the {self._size} bytes that came, which is {digest.hex()};"
                " nothing was stored, upload from the beginning",
            )
        return data

    async def drop(self, data: Data) -> None:
        """Delete data that no result takes. A fault leaves them to the garbage collection."""
        if isinstance(data, StoredObject):
            await self._discard([data.name])

    async def end(self) -> None:
        """Give up the parts: the upload is complete, or worth nothing. A fault leaves them to the garbage collection."""
        try:
            names = await end_upload(self._database, self._upload.upload_id)
        except UnavailableError as error:
            _log.warning("an upload's parts are left to the garbage collection", error=error.detail)
            return
        await self._discard(names)

    async def _keep_part(self) -> None:
        """Make safe what has arrived since the last part."""
        if self._writer is None:
            self._writer = await self._objects.writer()
            await self._writer.write(bytes(self._inline))
            self._inline.clear()
        part = await self._close()
        await self._admit(part.size)
        await note_part(self._database, self._upload, part)

    async def _close(self) -> StoredObject:
        assert self._writer is not None
        writer, self._writer = self._writer, None
        await writer.__aexit__(None, None, None)
        return writer.stored

    async def _joined(self) -> StoredObject:
        """Join all parts to one object."""
        async with await self._objects.writer() as writer:
            for part in self._upload.parts:
                async for piece in self._objects.read(part):
                    await writer.write(piece)
        return writer.stored

    async def _discard(self, names: Sequence[str]) -> None:
        try:
            await self._objects.discard(names)
        except UnavailableError as error:
            _log.warning("objects that nothing links to are left to the garbage collection", error=error.detail)

    def _other_size(self) -> InvalidRequestError:
        return InvalidRequestError(
            "begin.size", f"{self._expected.size} is announced, and {self._size} bytes came; nothing was stored"
        )


def check_offset(upload: UnderWay, offset: int) -> None:
    """Check that a client goes on where the upload stands.

    Raises:
        ConflictError: it does not.
    """
    if offset != upload.offset:
        raise ConflictError(
            f"upload {upload.upload_id} has come to {upload.offset} bytes, and cannot be continued from {offset};"
            f" send begin.offset {upload.offset}, and the bytes from there on"
        )
