"""Large results in an object store that this client can read directly, so that they need not be sent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.objects import PIECE_BYTES, is_readable

#: A file system that takes longer than this to answer is not read from.
_ANSWER_S = 1.0


class ObjectsHere:
    """The directory of the cluster's object store, if this client can read that same directory."""

    def __init__(self) -> None:
        self._offered: ObjectDirectory | None = None
        self._readable: Path | None = None

    async def offer(self, directory: ObjectDirectory) -> None:
        """Note the directory that the server names and check whether it is readable here; once for each directory."""
        if directory != self._offered:
            self._offered, self._readable = directory, None
            with suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    if await asyncio.to_thread(is_readable, directory):
                        self._readable = Path(directory.path)

    def give_up(self) -> None:
        """Stop reading from the directory: all results are sent until the server offers another one."""
        self._readable = None

    def path(self, stored: StoredObject | None) -> Path | None:
        """Return the file of an object; None if the object has to be sent."""
        return None if stored is None or self._readable is None else self._readable / stored.name


async def read_file(path: Path, size: int, offset: int) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an object from ``offset`` on, in order, in pieces of at most 1 MiB; at least one piece.

    Raises:
        OSError: the file cannot be read, or has fewer than ``size`` bytes.
    """
    while True:
        # A trip to a thread costs as much as reading half a MiB, opening the file a fiftieth of that. The file is
        # open only in the thread: a caller that is cancelled does not wait for the thread and could not close it.
        piece = await asyncio.to_thread(_read, path, offset, min(size - offset, PIECE_BYTES))
        offset += len(piece)
        if offset < size and not piece:
            raise OSError(f"{path} ends {size - offset} bytes early")
        yield piece
        if offset == size:
            return


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(size)
