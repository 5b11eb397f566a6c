"""Back-pressure on agents: bytes of reports that a replica has received and not written yet.

Agents report what has ended whether or not the database takes it just now. No report may be dropped,
so a replica with many of them in memory reads no more from agents until some are written. Further
reports wait in the agents, which ask for no more work meanwhile.
"""

import asyncio


class Backlog:
    """Counter of the bytes that wait to be written.

    Args:
        most: ``room`` waits while more bytes than this are held. What was let in before comes on top: one
            message of each agent.

    Attributes:
        held: Bytes that wait to be written now.
    """

    def __init__(self, most: int) -> None:
        self.held = 0
        self._most = most
        self._room = asyncio.Event()
        self._room.set()

    def hold(self, size: int, until: "asyncio.Future[None]") -> None:
        """Count ``size`` bytes until the future ``until`` is done, however it ends."""
        self.held += size
        if self.held > self._most:
            self._room.clear()
        until.add_done_callback(lambda _: self._let_go(size))

    def _let_go(self, size: int) -> None:
        self.held -= size
        if self.held <= self._most:
            self._room.set()

    async def room(self) -> None:
        """Wait until no more than ``most`` bytes are held."""
        await self._room.wait()
