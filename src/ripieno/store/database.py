"""Connections to PostgreSQL, transactions, and what its failures mean.

Every connection plans our statements the way they were written: small arrays of ids in,
index look-ups out. Hash and merge joins, materialized inner sides and sequential scans are
switched off, because the planner chooses them when it believes a table to be small, as each
table is when the plan is made on a new database, or when statistics lag behind a table that
has just grown by a million rows (measured: 400 ms instead of 8 for 2,000 keys); and a nested loop over an ordered array is what makes row
locks be taken in that order (see ``ripieno.store``).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from ripieno.domain.errors import InvalidRequestError, OutcomeUnknownError, UnavailableError
from ripieno.store.migrate import SCHEMA, migrate

if TYPE_CHECKING:  # generic in its type stubs, not at run time
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

T = TypeVar("T")

PLANNER_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "enable_memoize": "off",
    "enable_seqscan": "off",
    "jit": "off",
}

#: The server cannot be reached, is starting, stopping, or has no connection left.
_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke in the middle of a message
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)

#: Connections for claims, of which one is under way at a time for each partition.
_RELAXED_CONNECTIONS = 2

#: Two transactions crossed in a way that PostgreSQL resolves by refusing one of them.
_CROSSED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

_CROSSED_TRIES = 5

_DURING_COMMIT = "the database went away during a commit; it may have happened"

#: A function of the plain case (``migrations/0001_foundation.sql``) met something that is not plain.
_NOT_PLAIN = "RP001"

_BEGIN = "begin"
_BEGIN_RELAXED = "begin;set local synchronous_commit = off"


class NotPlainError(Exception):
    """What was asked for clashes with something; nothing has changed. Do it step by step."""


class Database:
    """A pool of connections to one database.

    Use as ``async with Database.open(url) as database``; the schema is up to date then.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", relaxed: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool
        self._relaxed = relaxed
        #: Transactions that PostgreSQL refused because of a crossing. The ladder of
        #: ``ripieno.store`` is there to keep it at zero.
        self.crossings = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, pool_size: int = 10, name: str = "ripieno", schema: str = SCHEMA
    ) -> AsyncIterator["Database"]:
        """Connect, migrate, and close at the end.

        Raises:
            UnavailableError: the server cannot be reached.
            InvalidRequestError: the URL is wrong, or the server refuses us.
        """
        settings = {**PLANNER_SETTINGS, "search_path": schema, "application_name": name}
        with _translated(url):
            connection = await asyncpg.connect(url, timeout=10)
            try:
                await migrate(connection, schema)
            finally:
                await connection.close()
            pool = await _create_pool(url, settings, pool_size)
            relaxed = await _create_pool(url, {**settings, "synchronous_commit": "off"}, _RELAXED_CONNECTIONS)
        try:
            yield cls(pool, relaxed)
        finally:
            pool.terminate()
            relaxed.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection, for statements that each stand alone.

        Raises:
            UnavailableError: the server cannot be reached; the statement had no effect
                unless it was a write that the server finished just then.
        """
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except _UNREACHABLE as error:
            raise UnavailableError("the database cannot be reached; nothing happened, try again") from error

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        async with self.connection() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetch_relaxed(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one writing statement whose commit does not wait for the disk.

        A crash of the database may forget it, but never half of it.
        """
        try:
            async with self._relaxed.acquire() as connection:
                return await connection.fetch(statement, *arguments)
        except _UNREACHABLE as error:
            raise UnavailableError("the database cannot be reached; try again") from error

    async def fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, if any."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def call_plain(self, statement: str, *arguments: Any) -> Any:
        """Call a function of the plain case: one transaction, one round trip, durable when it returns.

        Raises:
            NotPlainError: nothing happened; do it the careful way.
            UnavailableError: the server could not be reached; nothing happened.
            OutcomeUnknownError: it went away during the call.
        """
        async with self.connection() as connection:
            try:
                return await connection.fetchval(statement, *arguments)
            except asyncpg.UniqueViolationError as error:
                raise NotPlainError from error
            except _CROSSED as error:
                self.crossings += 1
                raise NotPlainError from error
            except asyncpg.PostgresError as error:
                if error.sqlstate == _NOT_PLAIN:
                    raise NotPlainError from error
                if isinstance(error, _UNREACHABLE):
                    raise OutcomeUnknownError(_DURING_COMMIT) from error
                raise
            except _UNREACHABLE as error:
                raise OutcomeUnknownError(_DURING_COMMIT) from error

    async def transaction(
        self, body: Callable[[Connection], Awaitable[T]], *, opening: str = "", durable: bool = True
    ) -> T:
        """Run ``body`` in a transaction at READ COMMITTED and return what it returned.

        ``body`` is run again when PostgreSQL refuses a crossing, so it must not have
        effects outside the database.

        Args:
            body: Gets the connection.
            opening: Statements without parameters to run as the transaction begins, in
                the same round trip (the gates, ``store.gates``).
            durable: False lets the commit not wait for the disk; a crash of the database
                may forget it (never half of it).

        Raises:
            UnavailableError: the server could not be reached; nothing happened.
            OutcomeUnknownError: it went away during the commit.
        """
        for attempt in range(_CROSSED_TRIES):
            try:
                return await self._transaction(body, opening, durable)
            except _CROSSED:
                self.crossings += 1
                if attempt == _CROSSED_TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    async def _transaction(self, body: Callable[[Connection], Awaitable[T]], opening: str, durable: bool) -> T:
        async with self.connection() as connection:
            committing = False
            try:
                await connection.execute(f"{_BEGIN if durable else _BEGIN_RELAXED};{opening}")
                value = await body(connection)
                committing = True
                await connection.execute("commit")
            except BaseException as error:
                await _leave_transaction(connection)
                if committing and isinstance(error, _UNREACHABLE):
                    raise OutcomeUnknownError(_DURING_COMMIT) from error
                raise
            return value


async def _create_pool(url: str, settings: Mapping[str, str], size: int) -> "asyncpg.Pool[asyncpg.Record]":
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        timeout=10,
        server_settings=dict(settings),
        max_cached_statement_lifetime=0,
        max_inactive_connection_lifetime=0,
        # Our transactions always end; a reset would cost a round trip at each release.
        reset=_keep_as_is,
    )


async def _leave_transaction(connection: Connection) -> None:
    """Roll back what is open; a connection of which that cannot be said goes no further."""
    try:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("rollback")
    except (*_UNREACHABLE, asyncpg.PostgresError):
        with suppress(asyncpg.InterfaceError):
            connection.terminate()


async def _keep_as_is(connection: Any) -> None:
    """Return a connection to the pool without a round trip."""


class _translated:  # noqa: N801 - reads as a phrase where it is used
    """Turn failures of connecting into errors that name the way out."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _UNREACHABLE):
            raise UnavailableError(
                f"the database at {_without_password(self._url)} cannot be reached: {error}"
            ) from error
        if isinstance(error, (ValueError, asyncpg.PostgresError)):
            raise InvalidRequestError("database", f"{_without_password(self._url)}: {error}") from error


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}{at}{place}" if at else url


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
