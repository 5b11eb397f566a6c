"""What a peer may send us before we say more (RFC 9113, section 5.2)."""

from __future__ import annotations


class ReceiveWindow:
    """Counts what a peer may still send, on one stream or on a whole connection.

    The peer is told of room in steps of half a window, so that small messages need no frame each.

    Args:
        size: Bytes that may be on their way at any time.

    Attributes:
        left: Bytes that the peer may send now.
    """

    __slots__ = ("_step", "_taken", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        self._step = size // 2
        self._taken = 0

    def receive(self, size: int) -> bool:
        """Count what arrived; False if the peer had no right to send it."""
        self.left -= size
        return self.left >= 0

    def take(self, size: int) -> int:
        """Count what is out of the way; returns the increment that the peer is to be told, or 0."""
        self._taken += size
        if self._taken < self._step:
            return 0
        increment, self._taken = self._taken, 0
        self.left += increment
        return increment
