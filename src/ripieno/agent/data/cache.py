"""In-memory caches of results, bounded by their bytes. No I/O."""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice

from ripieno.domain.data import Data, StoredObject
from ripieno.wire.protos.v1 import agent_pb2

#: Bytes that an entry counts beside its data.
_ENTRY_BYTES = 256

ResultKey = tuple[int, str]
"""The number of a session and the key of a result in it."""


class DataCache:
    """A cache of data by session and key that evicts the least recently used entries.

    The bytes of a COMPLETED result never change (INV-3), so an entry never becomes stale.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size = 0
        self._entries: OrderedDict[ResultKey, Data] = OrderedDict()

    def get(self, key: ResultKey) -> Data | None:
        """Return a result's data, or None if it is not cached."""
        data = self._entries.get(key)
        if data is not None:
            self._entries.move_to_end(key)
        return data

    def put(self, key: ResultKey, data: Data) -> None:
        """Add a result, evicting others if there is no room. No-op if the key is cached."""
        if key in self._entries:
            return
        self._entries[key] = data
        self._size += _weight(data)
        while self._size > self._limit_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._size -= _weight(oldest)


class ProducedCache:
    """Cache of small, settled results that this agent's workers produced, for dependencies and ``direct_data``.

    Settled messages are kept as they are, which costs nothing per task. They are indexed at the
    first look-up after they arrive.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._cache = DataCache(limit_bytes)
        self._limit_bytes = limit_bytes
        self._pending: deque[tuple[agent_pb2.AgentMessage, int]] = deque()
        self._pending_bytes = 0
        self._refused: set[int] = set()

    def settled(self, messages: list[agent_pb2.AgentMessage]) -> None:
        """Add messages whose outcomes were settled; the oldest that are not indexed are dropped beyond the limit."""
        for message in messages:
            size = message.ByteSize()
            self._pending.append((message, size))
            self._pending_bytes += size
        while self._pending_bytes > self._limit_bytes:
            self._pending_bytes -= self._pending.popleft()[1]
        if not self._pending:
            self._refused.clear()

    def refused(self, claims: set[int]) -> None:
        """Exclude outcomes of these claims, which had no effect since the claims were lost."""
        self._refused |= claims

    def get(self, key: ResultKey) -> bytes | None:
        """Return the bytes of a result that was produced here, or None."""
        while self._pending:
            self._index(self._pending.popleft()[0])
        self._pending_bytes = 0
        self._refused.clear()
        data = self._cache.get(key)
        return data if isinstance(data, bytes) else None

    def _index(self, message: agent_pb2.AgentMessage) -> None:
        for outcome in message.outcomes:
            if outcome.ticket.claim in self._refused:
                continue
            for result in outcome.completed.results:
                if result.data.WhichOneof("where") == "inline":
                    self._cache.put((outcome.ticket.session_no, result.key), result.data.inline)
        columns = message.completions
        results = zip(columns.keys, columns.data, strict=True)
        for session_no, claim, count in zip(columns.session_nos, columns.claims, columns.result_counts, strict=True):
            for key, data in islice(results, count):
                if claim not in self._refused:
                    self._cache.put((session_no, key), data)


def _weight(data: Data) -> int:
    return _ENTRY_BYTES if isinstance(data, StoredObject) else _ENTRY_BYTES + len(data)
