"""Room in memory for results on their way to clients: what does not fit waits in the store.

A client that reads slowly costs a bounded amount of memory, and all of them together do.
Nothing waits for room: whoever is refused keeps the names of results alone, and reads the
results again when its client takes more.

No stream holds more than it leaves to all others, so whoever comes next finds room.
"""

from collections.abc import Iterator
from contextlib import contextmanager

#: What one stream may hold, and what all streams of one kind may hold together: those that follow
#: results, and those that download them.
STREAM_BYTES = 4 * 1024 * 1024
REPLICA_BYTES = 32 * 1024 * 1024


class Room:
    """Bytes that may be held; a stream's part of a larger room, if that is given.

    Attributes:
        held: How many are.
    """

    def __init__(self, size: int, within: "Room | None" = None) -> None:
        self.held = 0
        self._size = size
        self._within = within
        self._parts = 0
        if within is not None:
            within._parts += 1

    def close(self) -> None:
        """Leave the larger room and give back to it all that this part holds."""
        self.give_back(self.held)
        if self._within is not None:
            self._within._parts -= 1

    @property
    def share(self) -> int:
        """How many bytes each part would have if all had the same."""
        return self._size if self._within is None else self._within._size // self._within._parts

    @property
    def free(self) -> int:
        """How many bytes there is room for."""
        free = self._size - self.held
        if self._within is not None:
            # With x bytes more, ``held + x`` may be no more than the ``within.free - x`` that are left then.
            free = min(free, (self._within.free - self.held) // 2)
        return max(0, free)

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold bytes that are there in any case until the block ends."""
        self.force(size)
        try:
            yield
        finally:
            self.give_back(size)

    def take(self, size: int) -> bool:
        """Hold so many bytes more; False, and nothing is held, if there is no room for them."""
        if size > self.free:
            return False
        self.force(size)
        return True

    def take_up_to(self, most: int, least: int) -> int:
        """Hold as many bytes as there is room for, ``most`` at the most; but ``least`` in any case."""
        size = max(least, min(most, self.free))
        self.force(size)
        return size

    def force(self, size: int) -> None:
        """Hold bytes that are there in any case."""
        self.held += size
        if self._within is not None:
            self._within.force(size)

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size
        if self._within is not None:
            self._within.give_back(size)
