"""A cache of what a replica has read from the database, bounded in entries and in bytes."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

#: Default bound of entries: more than a replica uses at a time.
MOST_ENTRIES = 10_000
MOST_BYTES = 8 * 1024 * 1024

#: Bytes of an entry in addition to the weight of its value.
_ENTRY_BYTES = 400


class Remembered(Generic[Key, Value]):
    """A bounded mapping; the entries that were put first are dropped first, and callers then ask the database again.

    Args:
        weigh: Returns the bytes of a value; must always return the same for the same value.

    Attributes:
        bytes: Approximate bytes of all entries.
    """

    def __init__(
        self, weigh: Callable[[Value], int], most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES
    ) -> None:
        self.bytes = 0
        self._weigh = weigh
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, or None if it is not remembered (any more)."""
        return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Remember a value, unless it alone exceeds the bound in bytes; a former value of the key is dropped."""
        if (former := self._values.pop(key, None)) is not None:
            self.bytes -= self._size(former)
        if (size := self._size(value)) > self._most_bytes:
            return
        self._values[key] = value
        self.bytes += size
        while len(self._values) > self._most_entries or self.bytes > self._most_bytes:
            _, forgotten = self._values.popitem(last=False)
            self.bytes -= self._size(forgotten)

    def drop(self, key: Key) -> Value | None:
        """Forget the value of a key, and return it; None if it is not remembered."""
        if (value := self._values.pop(key, None)) is not None:
            self.bytes -= self._size(value)
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.bytes = 0

    def _size(self, value: Value) -> int:
        return _ENTRY_BYTES + self._weigh(value)
