"""The database: sessions on it, transactions and incarnations.

All statements of the store go through here. Failures are raised as this project's own errors
only (``store.database.faults``). A session that waits for a server that has become silent
is ended (``store.database.watchman``).

**Incarnations.** What was read from a database and kept (numbers of sessions, of options, of
agents, blocks of a sequence) is valid for that database only. After a fail-over that lost the
latest commits, a restore, or with another database behind the same address, the same number may
mean something else. Each new session says which server start, database, tables and cluster it speaks to; if
any of them differs from before, ``incarnation`` counts up, caches are told to drop what they keep
(``on_new_incarnation``), and sessions of before are closed, all before the new session is used.
A caller that asked for a session before that is refused (``StaleError``, safe to try again), since
its statement may rest on what was kept; work that has waited elsewhere meanwhile names
the incarnation that it rests on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import asyncpg
import structlog

from ripieno.domain.errors import InvalidRequestError, OutcomeUnknownError, RipienoError, UnavailableError
from ripieno.processors import Processors
from ripieno.store.database.connections import Connection, Identity, Place, connect
from ripieno.store.database.faults import (
    OTHER_INCARNATION,
    ConnectionLostError,
    CrossedError,
    NoRoomForConnectionError,
    RefusedError,
    StaleError,
    translated,
)
from ripieno.store.database.migrate import SCHEMA, migrate
from ripieno.store.database.pool import Pool
from ripieno.store.database.queries import Queries
from ripieno.store.database.turns import Turns
from ripieno.store.database.watchman import Watchman

__all__ = ["Connection", "Database", "NotPlainError"]

_log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Connections for claims, of which one is under way at a time for each partition.
_RELAXED_CONNECTIONS = 2

#: Sessions that lists of any length may use at a time, of all sessions.
_LISTING_SESSIONS = 2

#: For so long no connection for claims is opened after the server had no room for one.
_WITHOUT_RELAXED_S = 30.0

_CROSSED_TRIES = 5

_DURING_COMMIT = "the database went away during a commit; it may have happened"

#: A function of the plain case (``migrations/0001_foundation.sql``) met something that is not plain.
_NOT_PLAIN = "RP001"

_SQL = Queries("connections")

#: Not in ``sql/``: ``opening`` is appended, so that both are one message.
_BEGIN = "begin"
_BEGIN_RELAXED = "begin;set local synchronous_commit = off"


class NotPlainError(Exception):
    """A call of the plain case clashed with something, and changed nothing: do the work step by step."""


class Database:
    """One database, used through as many sessions as are needed.

    Use as ``async with Database.open(url) as database``; the schema is up to date then.

    Attributes:
        incarnation: Number of the incarnation found last at the address; grows by one with each.
        on_new_incarnation: Functions that are called when another incarnation was found: each drops what its owner
            keeps of the former one.
        crossings: Transactions that PostgreSQL refused because of a crossing. The order of locks in
            ``ripieno.store`` is meant to keep this number at zero.
        processors: Load of this machine's processors, for work that can wait until they have time.
        turns: Turns of work that needs a session of the cluster for itself.
        long_lists: Semaphore that a reader of a page of a long list holds: two at a time.
    """

    def __init__(self, place: Place, pool_size: int) -> None:
        self.incarnation = 0
        self.on_new_incarnation: list[Callable[[], None]] = []
        self.crossings = 0
        self.processors = Processors()
        self.turns = Turns(self.processors)
        self.long_lists = asyncio.Semaphore(_LISTING_SESSIONS)
        self._place = place
        self._identity: Identity | None = None
        self._pids: set[tuple[str, int]] = set()
        self._pool = Pool(self._connected, pool_size, lambda: self.incarnation)
        self._relaxed = Pool(self._connected_relaxed, _RELAXED_CONNECTIONS, lambda: self.incarnation)
        self._no_relaxed_until = 0.0
        self._others: list[Pool] = []
        self._single: set[Connection] = set()
        self._watchman = Watchman(self._sessions, self._connected, self._forget)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, pool_size: int = 10, name: str = "ripieno", schema: str = SCHEMA
    ) -> AsyncIterator["Database"]:
        """Connect, migrate the schema, and close all sessions at the end.

        Args:
            url: Address of the database.
            pool_size: Sessions for statements and transactions, at most.
            name: Application name of the sessions.
            schema: Schema that holds our tables; created if it is missing.

        Raises:
            UnavailableError: the server cannot be reached, or takes no writes at present.
            InvalidRequestError: the URL is wrong, or the server refuses us.
        """
        place = Place(url, schema, name)
        try:
            await _migrated(place)
            database = cls(place, pool_size)
            await database._begin()
        except RefusedError as error:
            raise InvalidRequestError("database", f"{place.shown}: {error.detail}") from error
        except UnavailableError as error:
            error.detail = f"{error.detail} [{place.shown}]"  # at the start only: callers are told no address
            raise
        watching = asyncio.create_task(database._watchman.run())
        try:
            yield database
        finally:
            watching.cancel()
            for pool in database._pools():
                pool.close()
            for connection in list(database._single):
                connection.terminate()

    def own_session(self) -> Pool:
        """Return a pool of one session for the caller alone; the pool opens the session anew if it broke."""
        return self.own_sessions(1)

    def own_sessions(self, count: int) -> Pool:
        """Return a pool of so many sessions for the caller alone."""
        pool = Pool(self._connected, count, lambda: self.incarnation)
        self._others.append(pool)
        return pool

    async def connect(self, name: str) -> Connection:
        """Open a session with an application name; the caller owns the session and closes it."""
        connection = await self._found(await _connect_again(replace(self._place, name=name)))
        self._single.add(connection)
        connection.on_closed(lambda: self._single.discard(connection))
        return connection

    # ------------------------------------------------------------------ statements

    @asynccontextmanager
    async def connection(self, incarnation: int | None = None) -> AsyncIterator[Connection]:
        """Lend a session for statements that each are their own transaction.

        Args:
            incarnation: Incarnation that the statements rest on; None for the present one.

        Raises:
            UnavailableError: the server cannot be reached; the statement had no effect
                unless it was a write that the server finished just then.
            StaleError: the database is another incarnation than the one asked for.
        """
        async with self._pool.acquire(incarnation) as connection:
            yield connection

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        async with self._pool.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, if any."""
        async with self._pool.acquire() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def fetch_relaxed(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one writing statement whose commit does not wait for the disk.

        A crash of the database may undo the statement as a whole, never a part of it.
        """
        if asyncio.get_running_loop().time() > self._no_relaxed_until:
            try:
                async with self._relaxed.acquire() as connection:
                    return await connection.fetch(statement, *arguments)
            except NoRoomForConnectionError:
                self._no_relaxed_until = asyncio.get_running_loop().time() + _WITHOUT_RELAXED_S
        # The server grants us few sessions: claims share the pool, and wait for the disk.
        async with self._pool.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def call_plain(self, statement: str, *arguments: Any, incarnation: int | None = None) -> Any:
        """Call a function of the plain case: one transaction, one round trip, durable when it returns.

        Raises:
            NotPlainError: the call clashed with something, and changed nothing; do the work step by step.
            UnavailableError: the server could not be reached; nothing happened.
            OutcomeUnknownError: the server went away during the call.
        """
        async with self._pool.acquire(incarnation) as connection:
            try:
                return await connection.fetchval(statement, *arguments)
            except CrossedError as error:
                self.crossings += 1
                raise NotPlainError from error
            except ConnectionLostError as error:
                connection.terminate()
                raise OutcomeUnknownError(_DURING_COMMIT) from error
            except RipienoError as error:
                if isinstance(error.__cause__, asyncpg.UniqueViolationError) or (
                    isinstance(error.__cause__, asyncpg.PostgresError) and error.__cause__.sqlstate == _NOT_PLAIN
                ):
                    raise NotPlainError from error
                raise

    async def transaction(
        self,
        body: Callable[[Connection], Awaitable[T]],
        *,
        opening: str = "",
        durable: bool = True,
        incarnation: int | None = None,
    ) -> T:
        """Run ``body`` in a transaction at READ COMMITTED and return what it returned.

        ``body`` is run again when PostgreSQL refuses a crossing, so it must not have
        effects outside the database.

        Args:
            body: Called with the session.
            opening: Statements without parameters to run as the transaction begins, in
                the same round trip (the gates, ``store.database.gates``).
            durable: False if the commit shall not wait for the disk; a crash of the database
                may undo the transaction (never a part of it).
            incarnation: Incarnation that the numbers in ``body`` and ``opening`` are from; None for the present one.

        Raises:
            UnavailableError: the server could not be reached; nothing happened.
            OutcomeUnknownError: the server went away during the commit.
            StaleError: the database is another incarnation by now.
        """
        for attempt in range(_CROSSED_TRIES):
            try:
                return await self._transaction(body, opening, durable, incarnation)
            except CrossedError:
                self.crossings += 1
                if attempt == _CROSSED_TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    async def _transaction(
        self, body: Callable[[Connection], Awaitable[T]], opening: str, durable: bool, incarnation: int | None
    ) -> T:
        async with self._pool.acquire(incarnation) as connection:
            committing = False
            try:
                await connection.execute(f"{_BEGIN if durable else _BEGIN_RELAXED};{opening}")
                value = await body(connection)
                committing = True
                await connection.execute("commit")
            except ConnectionLostError as error:
                connection.terminate()
                if committing:
                    raise OutcomeUnknownError(_DURING_COMMIT) from error
                raise
            except Exception:
                await _leave_transaction(connection)
                raise
            return value

    # ------------------------------------------------------------------ sessions and incarnations

    async def _begin(self) -> None:
        """Open two sessions at once, to detect a pooler that shares server sessions between transactions."""
        (await self._connected()).terminate()  # the first incarnation
        async with self._pool.acquire():
            try:
                second = await self._connected()
            except NoRoomForConnectionError as error:
                raise UnavailableError("the database grants us one connection; at least three are needed") from error
            second.terminate()

    async def _connected(self) -> Connection:
        return await self._found(await _connect_again(self._place))

    async def _connected_relaxed(self) -> Connection:
        return await self._found(await _connect_again(self._place, relaxed=True))

    async def _found(self, connection: Connection) -> Connection:
        """Check a new session and note its incarnation, before anybody uses it."""
        shared = (connection.identity.started, connection.pid)
        if shared in self._pids:
            connection.terminate()
            raise RefusedError(
                "two sessions of ours share one of the server's: a pooler gives sessions away between transactions;"
                " let it pool by session (pgbouncer: pool_mode = session), or connect to PostgreSQL itself"
            )
        if connection.identity.cluster_id is None:
            connection.terminate()
            raise UnavailableError("the database does not hold our schema (any more); nothing happened, try again")
        if connection.identity != self._identity:
            self._reincarnated(connection.identity)
        connection.incarnation = self.incarnation
        self._pids.add(shared)
        connection.on_closed(lambda: self._pids.discard(shared))
        return connection

    @contextmanager
    def one_incarnation(self) -> Iterator[Callable[[], None]]:
        """Guarantee that all statements in the block read one incarnation; else the block raises ``StaleError``.

        Yields a check to call before results are passed on within the block. The end of the block is always checked,
        also where it raised another error.

        Raises:
            StaleError: the database is another incarnation by now.
        """
        began = self.incarnation

        def check() -> None:
            if self.incarnation != began:
                raise StaleError(OTHER_INCARNATION)

        try:
            yield check
        except Exception:
            check()
            raise
        check()

    async def check_incarnation(self, connection: Connection) -> None:
        """Check that a session opened long ago still reaches the tables that it was opened for.

        A backup may be restored while our sessions are open.

        Raises:
            StaleError: the tables are others by now. All sessions are closed, and opened anew when needed.
        """
        if await connection.fetchval(_SQL.home, self._place.home) != connection.identity.home:
            self._forget()
            (await self._connected()).terminate()  # a new session tells the caches now
            raise StaleError("the tables of the database are others than before; nothing happened, try again")

    def _reincarnated(self, identity: Identity) -> None:
        if self._identity is not None:
            _log.warning("the database is another one, or was started anew; what was kept of it is dropped")
        self._identity = identity
        self.incarnation += 1
        self._forget()
        for tell in self.on_new_incarnation:
            tell()

    def _forget(self) -> None:
        for pool in self._pools():
            pool.forget()
        for connection in list(self._single):
            connection.terminate()

    def _pools(self) -> list[Pool]:
        return [self._pool, self._relaxed, *self._others]

    def _sessions(self) -> list[Connection]:
        return [*self._single, *(connection for pool in self._pools() for connection in pool.open)]


async def _migrated(place: Place) -> None:
    connection = await connect(place)
    try:
        await connection.execute("set statement_timeout = 0")
        await migrate(connection.raw, place.schema)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if said := translated(error):
            raise said from error
        raise
    finally:
        await connection.close()


async def _connect_again(place: Place, *, relaxed: bool = False) -> Connection:
    """Call ``connect`` for a place that was usable before; if it is not now, raise RefusedError: no caller's fault."""
    try:
        return await connect(place, relaxed=relaxed)
    except InvalidRequestError as error:
        _log.error("the database is not as it was", error=error.detail)
        raise RefusedError("the database is not as it was, and cannot be used; try again later") from error


async def _leave_transaction(connection: Connection) -> None:
    """Roll back the open transaction; terminate the session if that fails."""
    try:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("rollback")
    except RipienoError:
        with suppress(asyncpg.InterfaceError):
            connection.terminate()
