"""Submissions in memory: how many are read at once, and how many bytes wait to be written.

gRPC reads a whole message before anybody can look at it, so the number of messages that are
being read is bounded, and a call waits for its turn before its message is asked for (until
then its bytes stay with the client: HTTP/2's flow control). What has arrived is counted until
its call ends. Whoever finds no room waits a few seconds in the order of arrival and is then
refused; that passes, so the same may be sent again.

Calls of a few MiB and those that are larger have rooms of their own: neither waits for the other. The size
of a submission is not known before its message is there. A connection whose last one was small is expected to bring
another small one: such connections are read in a lane of their own, and do not wait for those that send large ones.
"""

import asyncio
from collections import deque
from contextvars import ContextVar

from ripieno.control.calls.limits import Limit
from ripieno.domain.errors import OverloadedError

#: Messages that are read at once from connections of which small ones are expected, and from all others. Small ones
#: are there within a turn of the event loop; each of the others may be as large as a message can be.
_SMALL_READ_AT_ONCE, _READ_AT_ONCE = 4, 1

#: Connections of which small ones are expected that are remembered; of one that is not, nothing is.
_MOST_EXPECTED = 10_000

#: A message that takes longer keeps nobody waiting: a slow client must not hold up others.
_READ_WITHIN_S = 0.25

#: To put a message of many MiB together stops everything else in this process (1.2 ms a MiB, measured): after a large
#: one the next waits, by so many bytes a second, and what else there is to do comes between.
_LARGE_BYTES_S = 128 * 1024 * 1024

#: A submission up to this size is a small one; small ones and large ones have half of all room each.
_SMALL_BYTES = 4 * 1024 * 1024

#: How long a call waits for room.
_PATIENCE_S = 5.0


class Turns:
    """Something of which there is so much; who finds too little waits in the order of arrival.

    Attributes:
        free: How much there is.
    """

    def __init__(self, size: int) -> None:
        self.free = size
        self.size = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int, within_s: float) -> bool:
        """Take so much (but never more than all of it); whether there was enough in time."""
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
        """Take so much (but never more than all of it) if it is there and nobody waits; whether it was."""
        amount = min(amount, self.size)
        if self._waiting or amount > self.free:
            return False
        self.free -= amount
        return True

    def give_back(self, amount: int) -> None:
        """Give back what was taken."""
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
    """All submissions in the memory of a replica.

    Args:
        limit: Of their bytes.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._reading = Turns(_READ_AT_ONCE)
        self._reading_small = Turns(_SMALL_READ_AT_ONCE)
        #: Connections whose last submission was a small one, in the order in which they brought their first.
        self._expected: dict[str, None] = {}
        self._small = Turns(limit.value // 2 or 1)
        self._large = Turns(limit.value // 2 or 1)

    @property
    def most_of_one_stream(self) -> int:
        """Bytes of payloads that one stream keeps in memory at the most: a quarter of the room.

        A stream that needed more than all of it would be told to come again, without end.
        """
        return self._large.size // 4

    async def enter(self, connection: str) -> "Arrival":
        """Wait for the turn of a call whose message is to be read.

        Args:
            connection: By which it comes.

        Raises:
            OverloadedError: it did not come.
        """
        reading = self._reading_small if connection in self._expected else self._reading
        if not await reading.take(1, _PATIENCE_S):
            raise OverloadedError(
                f"the server reads {reading.size} submissions at a time, and other clients' take long;"
                " send the same again a little later"
            )
        return Arrival(reading, self, connection)

    def brought(self, connection: str, *, small: bool) -> None:
        """Remember whether a connection's last submission was a small one; one that is not there in time was not."""
        if not small:
            self._expected.pop(connection, None)
        elif connection not in self._expected:
            self._expected[connection] = None
            if len(self._expected) > _MOST_EXPECTED:
                del self._expected[next(iter(self._expected))]

    async def hold(self, size: int, *, large: bool) -> None:
        """Hold so many bytes more.

        Raises:
            OverloadedError: there is no room for them, and was none for a while.
        """
        if not await self._room(large).take(size, _PATIENCE_S):
            raise OverloadedError(self._limit.refusal(f"{size:,} more"))

    def give_back(self, size: int, *, large: bool) -> None:
        """Hold so many bytes less."""
        self._room(large).give_back(size)

    def _room(self, large: bool) -> Turns:
        return self._large if large else self._small


class Arrival:
    """One submission on its way into memory, from its turn to be read until its call ends.

    Attributes:
        size: Bytes of its message, once that is there.
    """

    def __init__(self, reading: Turns, arrivals: Arrivals, connection: str) -> None:
        self._arrivals = arrivals
        self._connection = connection
        self._reading: Turns | None = reading
        self._late = asyncio.get_running_loop().call_later(_READ_WITHIN_S, self._takes_long)
        self.size = 0
        #: Where it is counted: among the large ones or not; None while it is not.
        self._held: bool | None = None

    def arrived(self, size: int) -> None:
        """Its message is there."""
        self._late.cancel()
        self.size = size
        self._arrivals.brought(self._connection, small=size <= _SMALL_BYTES)

    def _takes_long(self) -> None:
        self._arrivals.brought(self._connection, small=False)
        self.read()

    def read(self) -> None:
        """The next one may be read: its message is there, or takes too long."""
        self._late.cancel()
        if self._reading is not None:
            if self.size > _SMALL_BYTES:
                asyncio.get_running_loop().call_later(self.size / _LARGE_BYTES_S, self._reading.give_back, 1)
            else:
                self._reading.give_back(1)
            self._reading = None

    async def hold(self) -> None:
        """Find room for its bytes.

        Raises:
            OverloadedError: there is none.
        """
        large = self.size > _SMALL_BYTES
        if not large:
            self.read()  # the next one is read while this one waits for room; a large one keeps its turn
        try:
            await self._arrivals.hold(self.size, large=large)
        finally:
            self.read()
        self._held = large

    def leave(self) -> None:
        """Its call has ended."""
        self.read()
        if self._held is not None:
            self._arrivals.give_back(self.size, large=self._held)
            self._held = None


#: The submission that the present call brings.
arriving: ContextVar[Arrival] = ContextVar("arriving")


def arrived_bytes() -> int:
    """How many bytes of message the present call has brought."""
    return arriving.get().size
