"""A small cache of results whose completion a client was just told, for the call with which it reads them.

A client of the original protocol waits for a result and then reads it, in two calls. The
first call has the bytes at hand as a rule: kept for a moment, they save the second one
a statement (measured: 0.1 ms of PostgreSQL and as much of this process for each result).
A completed result never changes until its session is purged, so a kept one is not wrong; one that was dropped,
or handed over once already, is read from the store.
"""

from collections import OrderedDict
from collections.abc import Iterable

#: The most bytes that are kept, more than all clients read at a time; the oldest results are dropped first.
_LARGEST_BYTES = 4 * 1024 * 1024
#: Estimated bytes of memory that an entry takes beside its data.
_ENTRY_BYTES = 400


class Handover:
    """Keeps the data of completed results, up to a bound of all bytes, each until it is taken."""

    def __init__(self, largest_bytes: int = _LARGEST_BYTES) -> None:
        self._largest_bytes = largest_bytes
        self._kept: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._bytes = 0

    def put(self, session_no: int, key: str, data: bytes) -> None:
        """Keep the data of a completed result; the oldest ones are dropped if there is too much."""
        self.take(session_no, key)
        self._kept[session_no, key] = data
        self._bytes += _ENTRY_BYTES + len(data)
        while self._bytes > self._largest_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _ENTRY_BYTES + len(dropped)

    def forget(self, gone: Iterable[int]) -> None:
        """Drop the results of sessions that were purged or deleted."""
        sessions = set(gone)
        for session_no, key in [each for each in self._kept if each[0] in sessions] if sessions else ():
            self.take(session_no, key)

    def clear(self) -> None:
        """Drop all results: the database numbers its sessions anew, or any session may have been purged meanwhile."""
        self._kept.clear()
        self._bytes = 0

    def take(self, session_no: int, key: str) -> bytes | None:
        """Remove a result and return its data; None if it is not kept."""
        data = self._kept.pop((session_no, key), None)
        if data is not None:
            self._bytes -= _ENTRY_BYTES + len(data)
        return data
