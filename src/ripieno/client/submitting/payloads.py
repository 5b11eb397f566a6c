"""Reading payloads piece by piece, in bounded memory."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from ripieno.client.terms.definitions import Payload
from ripieno.wire.chunks import chunks

#: Bytes that are read in one visit to a reading thread; a visit costs about 50 us.
_READ_AHEAD_BYTES = 1024 * 1024


def normal_payload(payload: Payload) -> bytes | Path | Iterable[bytes]:
    """Return a payload as one of three kinds: bytes, a Path, or an iterable of bytes.

    Raises:
        TypeError: the payload cannot be one of them.
    """
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, bytearray | memoryview):
        return bytes(payload)
    if isinstance(payload, str):
        raise TypeError("a payload is bytes; encode the text, or wrap the name of a file in pathlib.Path")
    if isinstance(payload, os.PathLike):
        return Path(payload)
    if isinstance(payload, Iterable):
        return payload
    raise TypeError(f"a payload is bytes, a path or an iterable of bytes, not {type(payload).__name__}")


def can_be_read_again(payload: bytes | Path | Iterable[bytes]) -> bool:
    """Return whether a second reading would give the same bytes, which an iterator's does not."""
    return not isinstance(payload, Iterator)


async def payload_chunks(payload: bytes | Path | Iterable[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    """Yield the payload in chunks of at most ``limit_bytes``, with one to two MiB in memory.

    Files and iterables are read in another thread, so that the event loop never waits
    for a disk.

    Raises:
        OSError: the file cannot be read.
        TypeError: the iterable yields something else than bytes.
    """
    if isinstance(payload, bytes):
        for chunk in chunks(payload, limit_bytes):
            yield chunk
        return
    source = _file_chunks(payload, limit_bytes) if isinstance(payload, Path) else _even_chunks(payload, limit_bytes)
    while ahead := await asyncio.to_thread(_read_ahead, source):
        for chunk in ahead:
            yield chunk


def _read_ahead(source: Iterator[bytes]) -> list[bytes]:
    ahead: list[bytes] = []
    size = 0
    for chunk in source:
        ahead.append(chunk)
        size += len(chunk)
        if size >= _READ_AHEAD_BYTES:
            break
    return ahead


def _file_chunks(path: Path, limit_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(limit_bytes):
            yield chunk


def _even_chunks(pieces: Iterable[bytes], limit_bytes: int) -> Iterator[bytes]:
    """Cut long pieces and join short ones: a message costs the same whatever its length."""
    held = bytearray()
    for piece in pieces:
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"a payload's pieces are bytes, not {type(piece).__name__}")
        held += piece
        start = 0
        while len(held) - start >= limit_bytes:
            yield bytes(held[start : start + limit_bytes])
            start += limit_bytes
        del held[:start]
    if held:
        yield bytes(held)
