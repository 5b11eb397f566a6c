"""``LargeValues``: large arguments that several tasks share, stored in the cluster once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.stored import Stored

#: Arguments of this size and more are stored; smaller ones go along with each task.
LARGE_BYTES = 256 * 1024


class LargeValues:
    """The large arguments of the tasks of one computation, by identity.

    An argument that is changed between two submissions is still the one that was stored first.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._lock = threading.Lock()
        #: Identity -> the value, which keeps the identity its own, and what stands for it.
        self._stored: dict[int, tuple[Any, Stored[Any]]] = {}

    def replaced(
        self, item: tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Return a call in which stored values stand for its large arguments.

        Raises:
            NotPicklableError: an argument cannot be sent.
            RipienoError: the cluster did not take it.
        """
        function, args, kwargs = item
        return (
            function,
            tuple(self.reference_to(value) for value in args),
            {name: self.reference_to(value) for name, value in kwargs.items()},
        )

    def reference_to(self, value: Any) -> Any:
        """Return what stands for a value: itself, or if it is large, what was stored of it."""
        if size_of(value) < LARGE_BYTES:
            return value
        with self._lock:
            known = self._stored.get(id(value))
            if known is None:
                known = self._stored[id(value)] = value, self.cluster.put(value, name=type(value).__name__)
            return known[1]

    def delete(self) -> None:
        """Delete the stored values from the cluster.

        Raises:
            RipienoError: no server answered.
        """
        with self._lock:
            keys = [stored.key for _, stored in self._stored.values()]
            self._stored.clear()
        if keys:
            self.cluster.session.delete_data(keys)


def size_of(value: Any) -> int:
    """Return how many bytes a value holds, as it says itself: arrays, tables, sparse matrices, bytes and texts."""
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    for part in (value, getattr(value, "data", None)):  # a sparse matrix of SciPy has its numbers in an array
        size = getattr(part, "nbytes", None)
        if isinstance(size, int):
            return size
    usage = getattr(value, "memory_usage", None)  # a table or a column of pandas
    if not callable(usage):
        return 0
    used = usage()
    return int(used.sum() if hasattr(used, "sum") else used)
