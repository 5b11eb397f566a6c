"""Room in memory for results on their way to clients: what does not fit waits in the store.

A client that reads slowly costs a bounded amount of memory, and all of them together do.
Nothing waits for room: whoever is refused keeps the names of results alone, and reads the
results again when its client takes more.
"""

#: What one stream may hold, and what all streams of a replica may hold together.
STREAM_BYTES = 8 * 1024 * 1024
REPLICA_BYTES = 64 * 1024 * 1024


class Room:
    """Bytes that may be held; part of a larger room, if that is given.

    Attributes:
        held: How many are.
    """

    def __init__(self, size: int, within: "Room | None" = None) -> None:
        self.held = 0
        self._size = size
        self._within = within

    def take(self, size: int) -> bool:
        """Hold so many bytes more; False, and nothing is held, if there is no room for them."""
        if self.held + size > self._size or (self._within is not None and not self._within.take(size)):
            return False
        self.held += size
        return True

    def take_up_to(self, most: int, least: int) -> int:
        """Hold as many bytes as there is room for, ``most`` at the most; but ``least`` in any case."""
        size = max(least, min(most, self.free))
        self.force(size)
        return size

    @property
    def free(self) -> int:
        """How many bytes there is room for."""
        free = self._size - self.held
        return max(0, free if self._within is None else min(free, self._within.free))

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
