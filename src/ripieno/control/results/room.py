"""Room in memory for results on their way to clients; results that do not fit stay in the store.

A client that reads slowly costs a bounded amount of memory, and so do all of them together.
No stream waits for room: one that finds none keeps the keys of results alone, and reads the
results again when its client takes more.

No stream takes more than it leaves to all others, so the next one to come finds room.
"""

from collections.abc import Iterator
from contextlib import contextmanager

#: The bytes that one stream may hold, and those that all streams of one kind may hold together: the kinds are
#: streams that follow results and streams that download them.
STREAM_BYTES = 4 * 1024 * 1024
REPLICA_BYTES = 32 * 1024 * 1024


class Room:
    """A number of bytes that may be held in memory.

    Args:
        size: The most bytes to hold.
        within: The larger room of which this one is a part, such as a stream's part of the replica's room.

    Attributes:
        held: Bytes that are held now.
    """

    def __init__(self, size: int, within: "Room | None" = None) -> None:
        self.held = 0
        self._size = size
        self._within = within
        self._parts = 0
        if within is not None:
            within._parts += 1

    def close(self) -> None:
        """Release all bytes that are held, and leave the larger room, if there is one."""
        self.give_back(self.held)
        if self._within is not None:
            self._within._parts -= 1

    @property
    def share(self) -> int:
        """Bytes that each part of the larger room would have if all had the same; all bytes if there is no larger room."""
        return self._size if self._within is None else self._within._size // self._within._parts

    @property
    def free(self) -> int:
        """Bytes that may still be taken; 0 where more than allowed is held."""
        free = self._size - self.held
        if self._within is not None:
            # If this part took x bytes more, ``held + x`` should not exceed the ``within.free - x`` that would be left.
            free = min(free, (self._within.free - self.held) // 2)
        return max(0, free)

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold bytes that are in memory in any case, as ``force`` does, until the block ends."""
        self.force(size)
        try:
            yield
        finally:
            self.give_back(size)

    def take(self, size: int) -> bool:
        """Hold ``size`` bytes more and return True; hold nothing and return False if there is no room for them."""
        if size > self.free:
            return False
        self.force(size)
        return True

    def take_up_to(self, most: int, least: int) -> int:
        """Hold as many bytes as there is room for, from ``least``, which is held in any case, to ``most``; return them."""
        size = max(least, min(most, self.free))
        self.force(size)
        return size

    def force(self, size: int) -> None:
        """Hold bytes that are in memory in any case, even beyond the room."""
        self.held += size
        if self._within is not None:
            self._within.force(size)

    def give_back(self, size: int) -> None:
        """Release ``size`` bytes that were held."""
        self.held -= size
        if self._within is not None:
            self._within.give_back(size)
