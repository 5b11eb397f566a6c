"""Large results that lie before us: read where they are instead of sent."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.objects import PIECE_BYTES, is_readable


class ObjectsHere:
    """The directory of the cluster's object store, where this client has the same one before it."""

    def __init__(self) -> None:
        self._offered: ObjectDirectory | None = None
        self._readable: Path | None = None

    async def offer(self, directory: ObjectDirectory) -> None:
        """The server says where objects lie; looked at once."""
        if directory != self._offered:
            readable = await asyncio.to_thread(is_readable, directory)
            self._offered, self._readable = directory, Path(directory.path) if readable else None

    def path(self, stored: StoredObject | None) -> Path | None:
        """The file of an object; None if it has to be sent."""
        return None if stored is None or self._readable is None else self._readable / stored.name


async def read_file(path: Path, size: int, offset: int) -> AsyncGenerator[bytes, None]:
    """The bytes of an object from ``offset`` on, in order, in pieces of at most a MiB; at least one.

    Raises:
        OSError: they cannot be read, or are not all there.
    """
    left = size - offset
    # A trip to a thread costs as much as reading half a MiB: what is small takes one.
    file, piece = await asyncio.to_thread(_open_and_read, path, offset, min(left, PIECE_BYTES))
    try:
        while True:
            left -= len(piece)
            if left and not piece:
                raise OSError(f"{path} ends {left} bytes early")
            yield piece
            if not left:
                return
            piece = await asyncio.to_thread(file.read, min(left, PIECE_BYTES))
    finally:
        file.close()


def _open_and_read(path: Path, offset: int, size: int) -> tuple[BinaryIO, bytes]:
    file = path.open("rb", buffering=0)
    try:
        file.seek(offset)
        return file, file.read(size)
    except BaseException:
        file.close()
        raise
