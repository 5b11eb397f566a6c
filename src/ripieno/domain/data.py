"""Payloads and results: bytes that travel inline, and references to bytes in the object store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A reference to a large payload or result in the object store.

    Attributes:
        name: The object's name; fresh for every write, never used again.
        size: The object's size in bytes.
        sha256: Digest of the object's bytes, by which two payloads are compared.
    """

    name: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class ObjectDirectory:
    """An object store that is a directory, with a proof by which a process recognises the same directory.

    Attributes:
        path: The directory's absolute path.
        proof_file: Name of a file in the directory, made anew by each replica of the control plane, so that
            neither a copy of the directory nor another one of the same name has it.
        proof: The content of that file.
    """

    path: str
    proof_file: str
    proof: str


#: A payload or a result: the bytes themselves (small) or where they lie (large).
Data = bytes | StoredObject
