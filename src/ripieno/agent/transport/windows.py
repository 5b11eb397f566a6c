"""Flow-control windows for received data (RFC 9113, section 5.2)."""

from __future__ import annotations


class ReceiveWindow:
    """Counts the bytes that a peer may still send, on one stream or on a whole connection.

    The peer is told of room in steps of half a window, so that small messages need no frame each.

    Args:
        size: The window: bytes that may be on their way at any time.

    Attributes:
        left: Bytes that the peer may send now; negative once it sent too many.
    """

    __slots__ = ("_step", "_taken", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        self._step = size // 2
        self._taken = 0

    def receive(self, size: int) -> bool:
        """Count ``size`` received bytes. Returns False if they exceed the window."""
        self.left -= size
        return self.left >= 0

    def take(self, size: int) -> int:
        """Count ``size`` bytes as read. Returns the WINDOW_UPDATE increment to send, or 0 for none yet."""
        self._taken += size
        if self._taken < self._step:
            return 0
        increment, self._taken = self._taken, 0
        self.left += increment
        return increment
