"""The database: sessions on it, transactions, incarnations, and what its failures mean.

Everything that the store does goes through here. Failures come out as this project's own errors
and as nothing else (``store.database.faults``). A session that waits for a server that has grown silent
is ended (``store.database.watchman``).

**Incarnations.** What was read from a database and kept (numbers of sessions, of options, of
agents, blocks of a sequence) is valid for that database only. After a fail-over that lost the
latest commits, a restore, or with another database behind the same address, the same number may
mean something else. Each new session says which server start, database, tables and cluster it speaks to; if
any of them differs from before, ``incarnation`` counts up, whoever keeps something is told to drop it
(``on_new_incarnation``), and sessions of before are closed, all before the new session is used.
Whoever asked for a session before that is refused (``StaleError``, safe to try again), since
what is to be asked may rest on what was kept; work that has waited elsewhere meanwhile names
the incarnation that it rests on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
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
from ripieno.store.database.turns import Turns
from ripieno.store.database.watchman import Watchman

__all__ = ["Connection", "Database", "NotPlainError", "array_literal"]

_log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Connections for claims, of which one is under way at a time for each partition.
_RELAXED_CONNECTIONS = 2

#: Of all sessions, those that lists of any length may use at a time.
_LISTING_SESSIONS = 2

#: The server had no room for them: for so long it is not asked again.
_WITHOUT_RELAXED_S = 30.0

_CROSSED_TRIES = 5

_DURING_COMMIT = "the database went away during a commit; it may have happened"

#: A function of the plain case (``migrations/0001_foundation.sql``) met something that is not plain.
_NOT_PLAIN = "RP001"

_HOME = "select to_regclass($1)::oid::bigint"

_BEGIN = "begin"
_BEGIN_RELAXED = "begin;set local synchronous_commit = off"


class NotPlainError(Exception):
    """What was asked for clashes with something; nothing has changed. Do it step by step."""


class Database:
    """One database, by as many sessions as are needed.

    Use as ``async with Database.open(url) as database``; the schema is up to date then.

    Attributes:
        incarnation: Counts the databases that were found at the address, one after the other.
        on_new_incarnation: Called when another one was found. What is kept in memory of the
            former one is to be dropped.
        crossings: Transactions that PostgreSQL refused because of a crossing. The ladder of
            ``ripieno.store`` is there to keep it at zero.
        processors: Of this machine, for work that can wait until they have time.
        turns: Whose turn it is to have a session for itself.
        long_lists: Held by whoever reads a page of a long list: two at a time.
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
        """Connect, migrate, and close at the end.

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
            error.detail = f"{error.detail} [{place.shown}]"  # for who starts us; callers are not told where it is
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
        """A session that nobody but the caller uses: a pool of one, that opens it anew where it broke."""
        pool = Pool(self._connected, 1, lambda: self.incarnation)
        self._others.append(pool)
        return pool

    async def connect(self, name: str) -> Connection:
        """Open a session that belongs to the caller, who closes it."""
        connection = await self._found(await _connect_again(replace(self._place, name=name)))
        self._single.add(connection)
        connection.on_closed(lambda: self._single.discard(connection))
        return connection

    # ------------------------------------------------------------------ statements

    @asynccontextmanager
    async def connection(self, incarnation: int | None = None) -> AsyncIterator[Connection]:
        """One session, for statements that each stand alone.

        Args:
            incarnation: Of the database that they rest on; None for the present one.

        Raises:
            UnavailableError: the server cannot be reached; the statement had no effect
                unless it was a write that the server finished just then.
            StaleError: the database is another incarnation than that.
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

        A crash of the database may forget it, but never half of it.
        """
        if asyncio.get_running_loop().time() > self._no_relaxed_until:
            try:
                async with self._relaxed.acquire() as connection:
                    return await connection.fetch(statement, *arguments)
            except NoRoomForConnectionError:
                self._no_relaxed_until = asyncio.get_running_loop().time() + _WITHOUT_RELAXED_S
        # A server that grants us few sessions: it is a little slower then.
        async with self._pool.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def call_plain(self, statement: str, *arguments: Any, incarnation: int | None = None) -> Any:
        """Call a function of the plain case: one transaction, one round trip, durable when it returns.

        Raises:
            NotPlainError: nothing happened; do it the careful way.
            UnavailableError: the server could not be reached; nothing happened.
            OutcomeUnknownError: it went away during the call.
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
            body: Gets the session.
            opening: Statements without parameters to run as the transaction begins, in
                the same round trip (the gates, ``store.database.gates``).
            durable: False lets the commit not wait for the disk; a crash of the database
                may forget it (never half of it).
            incarnation: Of the database that the numbers in ``body`` and ``opening`` are from.

        Raises:
            UnavailableError: the server could not be reached; nothing happened.
            OutcomeUnknownError: it went away during the commit.
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
        """Open two sessions at a time: a pooler that gives them away between transactions is found out."""
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
        """Say which incarnation a new session speaks to, before anybody uses it."""
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
        """What is read in the block, statement by statement, is of one incarnation, or nothing comes of it.

        Gives a check for what is told to others within the block; its end is checked by itself, an error's too.

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
        """See that a session that was opened long ago still speaks to the tables that it was opened for.

        A backup may be restored while our sessions are open.

        Raises:
            StaleError: it does not. All sessions are opened anew.
        """
        if await connection.fetchval(_HOME, self._place.home) != connection.identity.home:
            self._forget()
            (await self._connected()).terminate()  # whoever keeps something is told now
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
    """``connect`` to a place that was right before: if it is wrong now, that is no caller's fault."""
    try:
        return await connect(place, relaxed=relaxed)
    except InvalidRequestError as error:
        _log.error("the database is not as it was", error=error.detail)
        raise RefusedError("the database is not as it was, and cannot be used; try again later") from error


async def _leave_transaction(connection: Connection) -> None:
    """Roll back what is open; a session of which that cannot be said goes no further."""
    try:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("rollback")
    except RipienoError:
        with suppress(asyncpg.InterfaceError):
            connection.terminate()


def array_literal(texts: Sequence[str]) -> str:
    """One PostgreSQL array of text as a literal.

    Arrays of different lengths cannot travel as one two-dimensional array, so each
    travels as text and is cast in the statement.
    """
    if not texts:
        return "{}"
    if len(texts) == 1 and '"' not in texts[0] and "\\" not in texts[0]:
        return f'{{"{texts[0]}"}}'
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
