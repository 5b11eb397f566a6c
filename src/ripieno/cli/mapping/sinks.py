"""Where results go: standard output, or a file that appears when it is complete."""

import errno
import io
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

#: Seconds between two points from which another run can go on; each costs two waits for the disk.
_POINT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Point:
    """How far a file of results has come, so that another run of the same job can go on from there.

    Attributes:
        session_id: The session of the job.
        inputs: So many of the first inputs are done, without a failure.
        digest: Digest of the ids of their tasks.
        size: Their results are so many bytes.
    """

    session_id: str
    inputs: int
    digest: str
    size: int


class Sink:
    """Standard output, or another stream that takes bytes as they come. All methods may block.

    Attributes:
        partial: The file in which results are as long as not all are there; None if there is no such file.
    """

    partial: Path | None = None

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def point(self, session_id: str) -> Point | None:
        """Return the point from which the job can go on; None: from the beginning."""
        return None

    def begin(self, point: Point | None) -> None:
        """Begin to write, behind what there is up to a point."""

    def write(self, data: bytes) -> None:
        """Write bytes.

        Raises:
            OSError: nobody reads any more, or the disk is full.
        """
        self._file.write(data)

    def hand_on(self) -> None:
        """Let the reader have what was written so far; errors as in ``write``."""
        self._file.flush()

    def mark(self, session_id: str, inputs: int, digest: str) -> None:
        """Note that exactly so many inputs are done and written."""

    def finish(self) -> None:
        """End what was written: all of it is there.

        Raises:
            OSError: as for ``write``.
        """
        self._file.flush()

    def close(self) -> None:
        """Stop, without saying that all is there."""


class FileSink(Sink):
    """A file that appears under its name when ``finish`` was called, whole or not at all.

    Until then the bytes are in ``NAME.partial``, and in ``NAME.partial.json`` how many of them another run
    may go on from: they are on the disk before that is.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.BytesIO())
        self._path = path
        self.partial: Path = path.with_name(f"{path.name}.partial")
        self._note = path.with_name(f"{path.name}.partial.json")
        self._open: io.FileIO | None = None
        self._size = 0
        self._pointed_at = time.monotonic()

    def point(self, session_id: str) -> Point | None:
        """Return the point that the note names, if it is of the same job and the bytes are there."""
        with suppress(OSError, ValueError, TypeError):  # there is none, or it is of somebody else: begin anew
            point = Point(**json.loads(self._note.read_text()))
            if point.session_id == session_id and self.partial.stat().st_size >= point.size:
                return point
        return None

    def begin(self, point: Point | None) -> None:
        """Open the partial file, and cut it at the point.

        Raises:
            OSError: it cannot be written, or another run writes it.
        """
        size = 0 if point is None else point.size
        self.partial.touch()
        self._open = self.partial.open("r+b", buffering=0)
        if os.name == "posix":
            _lock(self._open, self.partial)
        if not size:
            self._note.unlink(missing_ok=True)
        self._open.truncate(size)
        self._open.seek(size)
        self._size = size

    def write(self, data: bytes) -> None:
        """Write bytes into the partial file; errors as in ``Sink.write``."""
        assert self._open is not None
        rest = memoryview(data)
        while rest:
            rest = rest[self._open.write(rest) :]
        self._size += len(data)

    def hand_on(self) -> None:
        """Do nothing: the file is written without a buffer."""

    def mark(self, session_id: str, inputs: int, digest: str) -> None:
        """Note, once a second, how far the file has come."""
        if time.monotonic() - self._pointed_at < _POINT_EVERY_S:
            return
        assert self._open is not None
        os.fsync(self._open.fileno())
        self._replace_note(Point(session_id, inputs, digest, self._size))
        self._pointed_at = time.monotonic()

    def finish(self) -> None:
        """Give the file its name."""
        assert self._open is not None
        os.fsync(self._open.fileno())
        self._open.close()
        self.partial.replace(self._path)
        self._note.unlink(missing_ok=True)
        if os.name == "posix":
            _sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the partial file, for the next run to go on with."""
        if self._open is not None:
            self._open.close()

    def _replace_note(self, point: Point) -> None:
        fresh = self._note.with_name(f"{self._note.name}.new")
        with fresh.open("w") as file:
            json.dump(asdict(point), file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._note)


def sink_of(path: Path | None) -> Sink:
    """Return the sink for a file, or standard output for None; a pipe or a device takes bytes as they come.

    Raises:
        OSError: the file cannot be written.
    """
    if path is None:
        return Sink(sys.stdout.buffer)
    if path.exists() and not path.is_file():
        return Sink(path.open("wb"))
    return FileSink(path)


def _lock(file: io.FileIO, path: Path) -> None:
    """Lock a file for as long as it is open, so for no longer than this process lives; close it if it is locked."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno != errno.EWOULDBLOCK:
            raise
        text = "another `ripieno map` writes it; wait for its end, or name another file"
        raise OSError(error.errno, text, str(path)) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
