"""What a replica remembers of the database: bounded in entries and in bytes; the oldest are forgotten first."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

#: More than a replica meets at a time.
MOST_ENTRIES = 10_000
MOST_BYTES = 8 * 1024 * 1024

#: An entry beside what is weighed of it.
_ENTRY_BYTES = 400


class Remembered(Generic[Key, Value]):
    """Values by their keys. What is forgotten is asked for again.

    Args:
        weigh: Bytes of a value, which never change.

    Attributes:
        bytes: Of all that is remembered, by and large.
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
        """The value, or None if it is not remembered (any more)."""
        return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Remember a value, unless it is more than all that may be."""
        if (former := self._values.pop(key, None)) is not None:
            self.bytes -= self._size(former)
        if (size := self._size(value)) > self._most_bytes:
            return
        self._values[key] = value
        self.bytes += size
        while len(self._values) > self._most_entries or self.bytes > self._most_bytes:
            _, forgotten = self._values.popitem(last=False)
            self.bytes -= self._size(forgotten)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.bytes = 0

    def _size(self, value: Value) -> int:
        return _ENTRY_BYTES + self._weigh(value)
