"""A bounded pool of sessions on one database, opened as they are needed.

The driver's own pool is not used, because it knows nothing of incarnations of the database
nor of servers that have become silent (``store.database.watchman``).
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

#: The longest that a caller waits for a session, including the time to open one; then it gets an error.
ACQUIRE_S = 9.0

#: For so long no session is opened after the server had no room for another one.
_MAKE_DO_S = 5.0

#: How long a session whose user went away in the middle of a statement may take to be usable again.
_RECOVER_S = 5.0


class Pool:
    """A pool that lends sessions to one user at a time each.

    Args:
        connect: Opens a session and sets its ``incarnation``.
        size: Sessions that may be open at a time.
        incarnation: Returns the incarnation of the database as it is known now.
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

    @asynccontextmanager
    async def acquire(self, incarnation: int | None = None) -> AsyncIterator[Connection]:
        """Lend a session to the caller until the block ends.

        Args:
            incarnation: Incarnation that the caller's statements rest on; None for the one known now.

        Raises:
            UnavailableError: no session was free within ``ACQUIRE_S``, or the server cannot be reached.
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
            self.forget()  # all sessions of the pool lead to the same server
            raise
        except ConnectionLostError:
            connection.terminate()
            raise
        except asyncio.CancelledError:
            if not connection.is_closed():
                # The driver has asked the server to cancel the statement; the session is usable once it has answered.
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
        """Open a session; return None if the server has no room for it, but others are open to wait for."""
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
        """Wait for a session that is given back; return None if one may be opened instead."""
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
        """Remove a session that has ended from the pool, and wake a caller that may open another one."""
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
        """Close idle sessions at once, and those in use when they are given back."""
        for connection in list(self._open):
            connection.doomed = True
        for connection in list(self._idle):
            connection.terminate()
            self._gone(connection)

    def close(self) -> None:
        """Close the pool and all sessions, in use or not."""
        self._closed = True
        for task in self._recovering:
            task.cancel()
        for connection in list(self._open):
            connection.terminate()
        self._idle.clear()
        self._open.clear()
