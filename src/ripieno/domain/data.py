"""Bytes that travel inline, and bytes that lie in the object store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A large datum in the object store.

    Attributes:
        name: Its name there; fresh for every write, never used again.
        size: In bytes.
        sha256: Digest of its bytes, by which two payloads are compared.
    """

    name: str
    size: int
    sha256: bytes


#: A payload or a result: the bytes themselves (small) or where they lie (large).
Data = bytes | StoredObject
