"""What a replica has been told and not written yet, in bytes: whoever would add more is held up.

Agents tell what has ended whether or not the database takes it just now. Nothing of it may be dropped,
so a replica that has much of it in memory reads no more from agents until some is written. What they
have to say waits with them, and they ask for no more work meanwhile.
"""

import asyncio


class Backlog:
    """Bytes that wait to be written.

    Args:
        most: With more than so many, ``room`` waits. What was let in before comes on top: one message
            of each agent.

    Attributes:
        held: How many there are.
    """

    def __init__(self, most: int) -> None:
        self.held = 0
        self._most = most
        self._room = asyncio.Event()
        self._room.set()

    def hold(self, size: int, until: "asyncio.Future[None]") -> None:
        """Count so many bytes until this is done, however it ends."""
        self.held += size
        if self.held > self._most:
            self._room.clear()
        until.add_done_callback(lambda _: self._let_go(size))

    def _let_go(self, size: int) -> None:
        self.held -= size
        if self.held <= self._most:
            self._room.set()

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()
