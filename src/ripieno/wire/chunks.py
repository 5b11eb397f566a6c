"""Cutting bytes into chunks that fit the protocol."""

from collections.abc import Iterator

#: Longest chunk in bytes that a client or a worker may send, unless configured otherwise.
DEFAULT_CHUNK_BYTES = 84_000


def chunks(data: bytes, chunk_bytes: int) -> Iterator[bytes]:
    """Cut ``data`` into chunks of at most ``chunk_bytes`` bytes; empty data is one empty chunk."""
    if len(data) <= chunk_bytes:
        yield data
        return
    view = memoryview(data)
    for start in range(0, len(data), chunk_bytes):
        yield bytes(view[start : start + chunk_bytes])
