"""Back-pressure on submissions: how many are read at once, and how many bytes of them are in memory.

gRPC reads a whole message before anybody can look at it, so the number of messages that are
being read is bounded, and a call waits for its turn before its message is asked for (until
then its bytes stay with the client: HTTP/2's flow control). The bytes of a submission are counted
until its call ends. A call that finds no room waits a few seconds in the order of arrival and is
then refused; that passes, so the same may be sent again.

Calls of up to 4 MiB and larger ones have rooms of their own: neither waits for the other. The size
of a submission is not known before its message is there. A connection whose last one was small is expected to bring
another small one: such connections are read in a lane of their own, and do not wait for those that send large ones.
"""

import asyncio
from collections import deque
from contextvars import ContextVar

from ripieno.control.calls.limits import Limit
from ripieno.domain.errors import OverloadedError

#: Messages that are read at once from connections of which small ones are expected, and from all others. A small
#: message arrives within a turn of the event loop; each of the others may be as large as a message can be.
_SMALL_READ_AT_ONCE, _READ_AT_ONCE = 4, 1

#: The most connections that are remembered as bringing small submissions; the oldest is forgotten first.
_MOST_EXPECTED = 10_000

#: The turn of a message that takes longer to arrive is passed on: a slow client must not hold up others.
_READ_WITHIN_S = 0.25

#: Putting a message of many MiB together stops everything else in this process (1.2 ms a MiB, measured): after a large
#: message the next one waits, by its size at this many bytes a second, and other work comes between.
_LARGE_BYTES_S = 128 * 1024 * 1024

#: A submission up to this size is small; small and large ones have half of all room each.
_SMALL_BYTES = 4 * 1024 * 1024

#: Seconds that a call waits for its turn to be read, and then for room.
_PATIENCE_S = 5.0


class Turns:
    """A bounded amount of something; takers that find too little wait in the order of arrival.

    Attributes:
        size: The amount in all.
        free: The amount that is not taken.
    """

    def __init__(self, size: int) -> None:
        self.free = size
        self.size = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int, within_s: float) -> bool:
        """Take ``amount`` (``size`` at the most), waiting up to ``within_s`` seconds.

        Returns:
            Whether it was taken in time; if not, nothing was taken.
        """
        if self.take_now(amount):
            return True
        amount = min(amount, self.size)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            async with asyncio.timeout(within_s):
                await turn
        except TimeoutError:
            return turn.done() and not turn.cancelled()
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(amount)
            raise
        finally:
            turn.cancel()
            self._go_on()
        return True

    def take_now(self, amount: int) -> bool:
        """Take ``amount`` (``size`` at the most) if it is free and nobody waits; return whether it was taken."""
        amount = min(amount, self.size)
        if self._waiting or amount > self.free:
            return False
        self.free -= amount
        return True

    def give_back(self, amount: int) -> None:
        """Give back an amount that was taken, and serve those who wait."""
        self.free += min(amount, self.size)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.done():
                if amount > self.free:
                    return
                self.free -= amount
                turn.set_result(None)
            self._waiting.popleft()


class Arrivals:
    """Turns and room for all submissions in the memory of a replica.

    Args:
        limit: The most bytes of submissions in memory.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._reading = Turns(_READ_AT_ONCE)
        self._reading_small = Turns(_SMALL_READ_AT_ONCE)
        #: Connections whose last submission was small, in the order in which these runs of small ones began.
        self._expected: dict[str, None] = {}
        self._small = Turns(limit.value // 2 or 1)
        self._large = Turns(limit.value // 2 or 1)

    @property
    def most_of_one_stream(self) -> int:
        """The most bytes of payloads that one stream keeps in memory: a quarter of the room for large submissions.

        A stream that needed more than the whole room would be told to try again for ever.
        """
        return self._large.size // 4

    async def enter(self, connection: str) -> "Arrival":
        """Wait for the turn of a call whose message is to be read.

        Args:
            connection: The gRPC peer from which the call comes.

        Raises:
            OverloadedError: if the turn did not come within 5 seconds.
        """
        reading = self._reading_small if connection in self._expected else self._reading
        if not await reading.take(1, _PATIENCE_S):
            raise OverloadedError(
                f"the server reads {reading.size} submissions at a time, and other clients' take long;"
                " send the same again a little later"
            )
        return Arrival(reading, self, connection)

    def brought(self, connection: str, *, small: bool) -> None:
        """Remember whether a connection's last submission was small; one that did not arrive in time counts as large."""
        if not small:
            self._expected.pop(connection, None)
        elif connection not in self._expected:
            self._expected[connection] = None
            if len(self._expected) > _MOST_EXPECTED:
                del self._expected[next(iter(self._expected))]

    async def hold(self, size: int, *, large: bool) -> None:
        """Hold ``size`` bytes more, in the room for small submissions or in that for large ones.

        Raises:
            OverloadedError: if there was no room for them within 5 seconds.
        """
        if not await self._room(large).take(size, _PATIENCE_S):
            raise OverloadedError(self._limit.refusal(f"{size:,} more"))

    def give_back(self, size: int, *, large: bool) -> None:
        """Release ``size`` bytes that were held."""
        self._room(large).give_back(size)

    def _room(self, large: bool) -> Turns:
        return self._large if large else self._small


class Arrival:
    """One submission on its way into memory, from its turn to be read until its call ends.

    Attributes:
        size: Bytes of the message once it has arrived; 0 before.
    """

    def __init__(self, reading: Turns, arrivals: Arrivals, connection: str) -> None:
        self._arrivals = arrivals
        self._connection = connection
        self._reading: Turns | None = reading
        self._late = asyncio.get_running_loop().call_later(_READ_WITHIN_S, self._takes_long)
        self.size = 0
        #: Whether its bytes are counted as a large submission; None while they are not counted.
        self._held: bool | None = None

    def arrived(self, size: int) -> None:
        """Note that the message has arrived, with its size in bytes; called by the parser of the request."""
        self._late.cancel()
        self.size = size
        self._arrivals.brought(self._connection, small=size <= _SMALL_BYTES)

    def _takes_long(self) -> None:
        self._arrivals.brought(self._connection, small=False)
        self.read()

    def read(self) -> None:
        """Pass the turn on, so that the next submission may be read: this message has arrived, or takes too long."""
        self._late.cancel()
        if self._reading is not None:
            if self.size > _SMALL_BYTES:
                asyncio.get_running_loop().call_later(self.size / _LARGE_BYTES_S, self._reading.give_back, 1)
            else:
                self._reading.give_back(1)
            self._reading = None

    async def hold(self) -> None:
        """Wait for room for the bytes of the message.

        Raises:
            OverloadedError: if there was no room within 5 seconds.
        """
        large = self.size > _SMALL_BYTES
        if not large:
            self.read()  # the next submission is read while this one waits for room; a large one keeps its turn
        try:
            await self._arrivals.hold(self.size, large=large)
        finally:
            self.read()
        self._held = large

    def leave(self) -> None:
        """Release the turn and the room of a submission whose call has ended."""
        self.read()
        if self._held is not None:
            self._arrivals.give_back(self.size, large=self._held)
            self._held = None


#: The submission that the present call brings.
arriving: ContextVar[Arrival] = ContextVar("arriving")


def arrived_bytes() -> int:
    """Return the bytes of the message that the present call has brought."""
    return arriving.get().size
