"""Bytes of results that a client was just told of, for the call with which it reads them.

A client of the original protocol waits for a result and then reads it, in two calls. The
first one has the bytes in its hands as a rule: kept for a moment, they save the second one
a statement (measured: 0.1 ms of PostgreSQL and as much of this process for each result).
A completed result never changes, so what is kept is never wrong; what was dropped, or
handed over once already, is read from the store.
"""

from collections import OrderedDict

#: More than all clients read at a time; the oldest go first.
_LARGEST_BYTES = 4 * 1024 * 1024
#: What an entry takes beside its bytes.
_ENTRY_BYTES = 400


class Handover:
    """Keeps a bounded number of results, each until it is taken."""

    def __init__(self, largest_bytes: int = _LARGEST_BYTES) -> None:
        self._largest_bytes = largest_bytes
        self._kept: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._bytes = 0

    def put(self, session_no: int, key: str, data: bytes) -> None:
        """Keep a completed result."""
        self.take(session_no, key)
        self._kept[session_no, key] = data
        self._bytes += _ENTRY_BYTES + len(data)
        while self._bytes > self._largest_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _ENTRY_BYTES + len(dropped)

    def clear(self) -> None:
        """Keep nothing: the database is another incarnation, to which the sessions' numbers mean nothing."""
        self._kept.clear()
        self._bytes = 0

    def take(self, session_no: int, key: str) -> bytes | None:
        """Its bytes, once."""
        data = self._kept.pop((session_no, key), None)
        if data is not None:
            self._bytes -= _ENTRY_BYTES + len(data)
        return data
