"""A bounded set of sessions on one database, opened as they are needed.

Of our own and not the driver's, because a session is more than open or closed here: what was
read through it belongs to one incarnation of the database, and a server that has grown silent
has to be noticed (``store.database.watchman``).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ripieno.domain.errors import RipienoError, UnavailableError
from ripieno.store.database.connections import Connection
from ripieno.store.database.faults import (
    OTHER_INCARNATION,
    ConnectionLostError,
    NoRoomForConnectionError,
    NotWritableError,
    StaleError,
)

#: Whoever gets no session within this is told so. It includes the time to open one.
ACQUIRE_S = 9.0

#: After the server had no room for another session we make do with those we have for so long.
_MAKE_DO_S = 5.0

#: How long a session whose user went away in the middle of a statement may take to be usable again.
_RECOVER_S = 5.0


class Pool:
    """Sessions for whoever needs one for a moment.

    Args:
        connect: Opens a session, with its ``incarnation`` set.
        size: How many there may be.
        incarnation: Returns that of the database as it is known now.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int, incarnation: Callable[[], int]) -> None:
        self._connect = connect
        self._incarnation = incarnation
        self._size = size
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._no_room_until = 0.0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._recovering: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def open(self) -> set[Connection]:
        """All sessions, idle or not."""
        return self._open

    def get_size(self) -> int:
        """How many sessions are open."""
        return len(self._open)

    @asynccontextmanager
    async def acquire(self, incarnation: int | None = None) -> AsyncIterator[Connection]:
        """A session of one's own for a while.

        Args:
            incarnation: Of the database that the caller speaks of; None for the one known now.

        Raises:
            UnavailableError: there is none within ``ACQUIRE_S``, or the server cannot be reached.
            StaleError: the database is another incarnation by now.
        """
        if incarnation is None:
            incarnation = self._incarnation()
        connection = self._take_idle() or await self._take()
        try:
            if connection.incarnation != incarnation:
                raise StaleError(OTHER_INCARNATION)
            yield connection
        except NotWritableError:
            self.forget()  # all of them lead to the same server
            raise
        except ConnectionLostError:
            connection.terminate()
            raise
        except asyncio.CancelledError:
            if not connection.is_closed():
                # The driver has asked the server to stop, and the session is usable once that is answered.
                task = asyncio.get_running_loop().create_task(self._recover(connection))
                self._recovering.add(task)
                task.add_done_callback(self._recovering.discard)
                connection = None  # type: ignore[assignment]
            raise
        finally:
            if connection is not None:
                self._release(connection)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _take(self) -> Connection:
        try:
            async with asyncio.timeout(ACQUIRE_S):
                while True:
                    if connection := self._take_idle():
                        return connection
                    if self._may_open():
                        if connection := await self._opened():
                            return connection
                    elif connection := await self._handed_over():
                        return connection
        except TimeoutError as error:
            raise UnavailableError(
                f"no connection to the database was free for {ACQUIRE_S:.0f} s; nothing happened, try again"
            ) from error

    def _may_open(self) -> bool:
        held_back = self._open and asyncio.get_running_loop().time() < self._no_room_until
        return len(self._open) + self._opening < self._size and not held_back

    async def _opened(self) -> Connection | None:
        """A new session; None if the server has no room for another one beside those we have."""
        self._opening += 1
        try:
            connection = await self._connect()
        except NoRoomForConnectionError:
            if not self._open:
                raise
            self._no_room_until = asyncio.get_running_loop().time() + _MAKE_DO_S
            return None
        finally:
            self._opening -= 1
            self._wake_one()
        if self._closed:
            connection.terminate()
            raise UnavailableError("the database is being closed")
        self._open.add(connection)
        connection.on_closed(lambda: self._gone(connection))
        return connection

    async def _handed_over(self) -> Connection | None:
        """Wait for a session that somebody gives back; None says that there is room to open one."""
        future: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                if (connection := future.result()) is not None:
                    self._release(connection)
                else:
                    self._wake_one()
            raise

    def _release(self, connection: Connection) -> None:
        if connection.doomed:
            connection.terminate()
        if connection.is_closed():
            self._gone(connection)
            return
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return
        self._idle.append(connection)

    def _gone(self, connection: Connection) -> None:
        """A session has ended: another one may be opened."""
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    async def _recover(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(_RECOVER_S):
                await connection.execute("rollback")
        except (RipienoError, TimeoutError):
            connection.terminate()
        finally:
            self._release(connection)

    def forget(self) -> None:
        """Close the sessions that nobody uses, and the others once they are given back."""
        for connection in list(self._open):
            connection.doomed = True
        for connection in list(self._idle):
            connection.terminate()
            self._gone(connection)

    def close(self) -> None:
        """End all sessions."""
        self._closed = True
        for task in self._recovering:
            task.cancel()
        for connection in list(self._open):
            connection.terminate()
        self._idle.clear()
        self._open.clear()
