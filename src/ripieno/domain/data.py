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


@dataclass(frozen=True, slots=True)
class ObjectDirectory:
    """An object store that is a directory, and how to know that one has the same before one.

    Attributes:
        proof_file: Name of a file in it, made anew by each replica of the control plane,
            so that no copy of the directory has it, nor another one of the same name.
        proof: What is in that file.
    """

    path: str
    proof_file: str
    proof: str


#: A payload or a result: the bytes themselves (small) or where they lie (large).
Data = bytes | StoredObject
