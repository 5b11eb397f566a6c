"""``Spool``: bytes that arrive in chunks, held in memory, in a temporary file, or in a file of the agent's."""

import io
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Beyond this many bytes, arriving data goes to a temporary file (removed when closed).
SPOOL_LIMIT_BYTES = 1024 * 1024

_READ_BYTES = 256 * 1024


class Spool:
    """The bytes of one payload or datum as they arrive.

    One thread writes a spool until it is complete; other threads read it afterwards. At most
    ``SPOOL_LIMIT_BYTES`` are in memory, whatever its size.
    """

    __slots__ = ("_chunks", "_file", "size")

    def __init__(self, first: bytes = b"") -> None:
        self._chunks = [first]
        self._file: IO[bytes] | None = None
        self.size = len(first)

    @property
    def spilled(self) -> bool:
        """Whether the bytes lie in a file."""
        return self._file is not None

    def append(self, chunk: bytes) -> None:
        """Add the next chunk.

        Raises:
            OSError: the temporary file cannot be written (its disk is full, say).
        """
        self.size += len(chunk)
        if self._file is not None:
            _write_all(self._file, chunk)
            return
        self._chunks.append(chunk)
        if self.size > SPOOL_LIMIT_BYTES:
            # Unbuffered: chunks are large, and readers look at the descriptor.
            self._file = tempfile.TemporaryFile(prefix="ripieno-", buffering=0)  # noqa: SIM115 - close() closes it
            for held in self._chunks:
                _write_all(self._file, held)
            self._chunks.clear()

    def adopt(self, path: str, size: int) -> None:
        """Take the bytes from a file instead, which somebody else keeps until the attempt ends.

        Raises:
            OSError: the file cannot be opened, or has another size.
        """
        self._chunks.clear()
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - close() closes it
        self.size = os.fstat(self._file.fileno()).st_size
        if self.size != size:
            raise OSError(f"{path} has {self.size} bytes instead of {size}")

    def read(self) -> bytes:
        """Return all bytes."""
        if self._file is not None:
            with self.open() as reader:
                return reader.read()
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0]

    def open(self) -> BinaryIO:
        """Return a readable, seekable binary file over the bytes, with a position of its own.

        The file is valid until the attempt ends; reading it later raises ValueError.
        """
        if self._file is None:
            return io.BytesIO(self.read())
        return cast(BinaryIO, io.BufferedReader(_Reader(self._file, self.size), _READ_BYTES))

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()


def _write_all(file: IO[bytes], data: bytes) -> None:
    """Write ``data`` whole: an unbuffered file may take less at once."""
    written = file.write(data)
    while written < len(data):
        written += file.write(memoryview(data)[written:])


class _Reader(io.RawIOBase):
    """Reads a file by position, so that several readers do not disturb each other."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}, before the start")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        # The descriptor is asked for each time: the number of a closed one may belong to another file by now.
        data = os.pread(self._file.fileno(), len(target), self._position)
        target[: len(data)] = data
        self._position += len(data)
        return len(data)
