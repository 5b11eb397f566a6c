"""``Stored``: a value that was put into the cluster."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ripieno.client import ResultHandle
from ripieno.functions.calling.future import Home
from ripieno.functions.terms.errors import FutureMisuseError
from ripieno.functions.terms.pickling import loads
from ripieno.functions.terms.references import Kind, Reference

T = TypeVar("T")


class Stored(Reference, Generic[T]):
    """A value that was put into the cluster: as an argument of a submission, at any depth, it stands for the value.

    Attributes:
        key: The key of the result that holds it.
        name: The name that it was given.
    """

    __slots__ = ("_cluster", "index", "key", "kind", "name", "session_id")

    def __init__(self, cluster: Home, handle: ResultHandle, name: str) -> None:
        self.key = handle.key
        self.index = None
        self.kind = Kind.STORED
        self.session_id = cluster.session_id
        self.name = name
        self._cluster = cluster

    def result(self) -> T:
        """Fetch the value from the cluster and return it.

        Raises:
            RipienoError: it could not be fetched.
        """
        return loads(self._cluster.fetch(self.key))  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        """Show the name and the key."""
        return f"<Stored {self.name + ' ' if self.name else ''}{self.key!r}>"

    def __reduce__(self) -> Any:
        """Refuse to be pickled except as an argument of a submission."""
        raise FutureMisuseError(f"{self!r} can only be sent as an argument of a function that is submitted")
