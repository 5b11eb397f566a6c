"""One connection to PostgreSQL: how it is opened, what is set on it, and which server and database it reached.

Each session has the settings that our statements need, whatever the role, the database or a pooler has set:
statements set them once the session is open, since poolers refuse start-up parameters.

Every connection plans our statements the way they were written: small arrays of ids in,
index look-ups out. Hash and merge joins, materialized inner sides and sequential scans are
switched off, because the planner chooses them when it believes a table to be small, as each
table is when the plan is made on a new database, or when statistics lag behind a table that
has just grown by a million rows (measured: 400 ms instead of 8 for 2,000 keys); and a nested loop over an
ordered array is what makes row locks be taken in that order (see ``ripieno.store``).
"""

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import asyncpg

from ripieno.domain.errors import InvalidRequestError, RipienoError
from ripieno.store.database.faults import NotWritableError, RefusedError, translated
from ripieno.store.database.queries import Queries

#: A server that does not answer a new connection within this time counts as unreachable.
CONNECT_S = 5.0

#: The longest that a statement may take, so that nothing waits for ever; far above what any of
#: ours normally takes. The server cancels the statement then, and the watchman ends the session a little later.
STATEMENT_S = 120.0

#: The kernels of both sides notice within about this time that the other host has vanished.
_SILENCE_S = 8

SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "enable_memoize": "off",
    "enable_seqscan": "off",
    "jit": "off",
    # The plans that remain to choose from, on even if a role or a database has switched them off.
    "enable_nestloop": "on",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_bitmapscan": "on",
    "enable_tidscan": "on",
    "enable_sort": "on",
    # Our statements depend on these, which a role or a database may have set otherwise.
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "statement_timeout": f"{STATEMENT_S:.0f}s",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    # A replica that is stopped inside a transaction holds locks that others wait for. Our transactions are idle
    # for the time of a round trip only.
    "idle_in_transaction_session_timeout": "10s",
    # For the server's side of the connection (nothing on a unix socket).
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{_SILENCE_S}s",
}
#: Settings that older servers do not know, by the first major version that does.
_SINCE = {17: {"transaction_timeout": "0"}}

_SQL = Queries("connections")
_CLUSTER = Queries("cluster")

#: Not in ``sql/``: a setting of the session, as ``SETTINGS`` are.
_RELAXED = "set synchronous_commit = off"

Row = asyncpg.Record

T = TypeVar("T")


class Identity(NamedTuple):
    """The identity of a database's incarnation: what was read from one is not valid for another.

    Attributes:
        started: When the server was started, as text.
        database: Number (oid) of the database on its server.
        home: Number (oid) of our table ``cluster`` in the database; None if it does not hold our schema.
        cluster_id: Id of the cluster, from that table; None if it does not hold our schema.
    """

    started: str
    database: int
    home: int | None
    cluster_id: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is and how sessions on it are made.

    Attributes:
        url: Address of the database; may hold a password.
        schema: Schema that holds our tables.
        name: Application name of our sessions, as administrators see it.
    """

    url: str
    schema: str
    name: str

    @property
    def home(self) -> str:
        """The quoted name of the table ``cluster``, which says which cluster the database belongs to."""
        return f'"{self.schema}".cluster'

    @property
    def shown(self) -> str:
        """The URL without its password, for messages."""
        scheme, separator, rest = self.url.partition("://")
        credentials, at, place = rest.rpartition("@")
        user = credentials.partition(":")[0]
        return f"{scheme}{separator}{user}{at}{place}" if at else self.url


class Connection:
    """A session on the database. It raises errors of this project only (``store.database.faults``).

    Attributes:
        pid: Number of the server's process that serves the session.
        identity: Identity of the database that the session reached.
        incarnation: Number of that identity, as the ``Database`` counts them; set by the session's owner.
        doomed: True if the session is to be closed once nobody uses it.
        busy_since: When the statement under way began (seconds of the monotonic clock); None between statements.
        statement_no: Number of statements that were started, so that one can be told from the next.
    """

    __slots__ = ("_raw", "busy_since", "doomed", "identity", "incarnation", "pid", "statement_no")

    def __init__(self, raw: "asyncpg.Connection[Row]", pid: int, identity: Identity) -> None:
        self._raw = raw
        self.pid = pid
        self.identity = identity
        self.incarnation = 0
        self.doomed = False
        self.busy_since: float | None = None
        self.statement_no = 0

    @property
    def raw(self) -> "asyncpg.Connection[Row]":
        """The driver's connection, for what has no method here."""
        return self._raw

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        """Run a statement and return its rows."""
        return await self._run(self._raw.fetch, statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> Row | None:
        """Run a statement and return its first row, if any."""
        return await self._run(self._raw.fetchrow, statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        """Run a statement and return the first value of its first row."""
        return await self._run(self._raw.fetchval, statement, *arguments)

    async def execute(self, statement: str, *arguments: Any) -> str:
        """Run a statement, or several without arguments; return the tag of the last, such as ``INSERT 0 512``."""
        return await self._run(self._raw.execute, statement, *arguments)

    async def listen(self, channel: str, heard: Callable[[object, int, str, object], None]) -> None:
        """Listen to a channel, and call ``heard`` for each notification: connection, pid, channel, payload."""
        await self._run(self._raw.add_listener, channel, heard)

    async def _run(self, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        self.busy_since = time.monotonic()
        self.statement_no += 1
        try:
            return await ask(*arguments)
        except Exception as error:
            if said := translated(error):
                raise said from error
            raise
        finally:
            self.busy_since = None

    def is_closed(self) -> bool:
        """Whether the session is closed."""
        return self._raw.is_closed()

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open on the session."""
        return self._raw.is_in_transaction()

    def on_closed(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when the session breaks or is closed; at once if it is closed already."""
        if self._raw.is_closed():
            tell()
        else:
            self._raw.add_termination_listener(lambda _raw: tell())

    def terminate(self) -> None:
        """Close the session at once; a statement under way raises ``ConnectionLostError``."""
        with suppress(asyncpg.InterfaceError):
            self._raw.terminate()

    async def close(self) -> None:
        """Close the session in an orderly way, within a second; never raises for a broken connection."""
        with suppress(OSError, asyncpg.InterfaceError, asyncpg.PostgresError, asyncpg.InternalClientError):
            await self._raw.close(timeout=1)


async def connect(place: Place, *, relaxed: bool = False) -> Connection:
    """Open a session and set it up.

    Args:
        place: Database, schema and application name.
        relaxed: True if commits of the session shall not wait for the disk.

    Raises:
        ConnectionLostError: the server cannot be reached.
        NoRoomForConnectionError: the server takes no more connections.
        NotWritableError: the server takes no writes at present.
        RefusedError: the server refuses us, or the role may only read.
        InvalidRequestError: the URL, the database or the role cannot be used as they are.
    """
    try:
        raw = await asyncpg.connect(
            place.url,
            timeout=CONNECT_S,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": place.name},
        )
    except ValueError as error:
        raise InvalidRequestError("database", f"{place.shown}: {error}") from error
    except Exception as error:
        if said := _of_connecting(place, error):
            raise said from error
        raise
    try:
        _guard_socket(raw)
        async with asyncio.timeout(CONNECT_S):
            return await _prepared(raw, place, relaxed=relaxed)
    except BaseException as error:
        raw.terminate()
        if said := _of_connecting(place, error):
            raise said from error
        raise


def _of_connecting(place: Place, error: BaseException) -> RipienoError | None:
    said = translated(error)
    return InvalidRequestError("database", f"{place.shown}: {error}") if isinstance(said, InvalidRequestError) else said


async def _prepared(raw: "asyncpg.Connection[Row]", place: Place, *, relaxed: bool) -> Connection:
    known = raw.get_server_version().major
    settings = {
        **SETTINGS,
        **dict(itertools.chain(*(more.items() for since, more in _SINCE.items() if known >= since))),
    }
    # Before anything else, since a role may have set a time-out of a millisecond. Composed: not in ``sql/``.
    first = ";".join(f"set {name} = '{value}'" for name, value in settings.items())
    await raw.execute(f'{first};set search_path = "{place.schema}"')
    await raw.execute(_RELAXED if relaxed else _SQL.durable)
    who = await raw.fetchrow(_SQL.who, place.home)
    assert who is not None  # it has one row always
    _check(who, place)
    cluster_id = await raw.fetchval(_CLUSTER.cluster_id) if who["home"] else None
    return Connection(raw, who["pid"], Identity(who["started"], who["database"], who["home"], cluster_id))


def _check(who: Row, place: Place) -> None:
    """Refuse a server that cannot be used at present (NotWritableError), or as it or the role is set up."""
    if who["encoding"] != "UTF8":
        raise InvalidRequestError(
            "database",
            f"{place.shown} has the encoding {who['encoding']}, which does not hold all text;"
            " give a database that was created with encoding 'UTF8'",
        )
    if who["read_only"] and who["read_only_by"] in ("user", "database user"):
        raise RefusedError(
            f"the role {who['role']!r} of the database may only read; undo it"
            f" (alter role {who['role']} reset default_transaction_read_only) or give another role"
        )
    if who["standby"] or who["read_only"]:
        what = "it is a standby" if who["standby"] else "it is set to be read-only"
        raise NotWritableError(f"the database takes no writes at present: {what}; nothing happened, try again")


def _guard_socket(raw: "asyncpg.Connection[Row]") -> None:
    """Set TCP time-outs, so that the kernel notices that the other host has vanished; no-op for unix sockets."""
    transport: Any = getattr(raw, "_transport", None)
    sock: Any = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == socket.AF_UNIX:
        return
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *_named("TCP_KEEPIDLE", 3),
        *_named("TCP_KEEPALIVE", 3),  # macOS
        *_named("TCP_KEEPINTVL", 2),
        *_named("TCP_KEEPCNT", 3),
        *_named("TCP_USER_TIMEOUT", _SILENCE_S * 1000),
    ]
    for option in options:
        with suppress(OSError):  # some sandboxes refuse it; the watchman notices silence without it
            sock.setsockopt(*option)


def _named(name: str, value: int) -> list[tuple[int, int, int]]:
    number = getattr(socket, name, None)
    return [] if number is None else [(socket.IPPROTO_TCP, number, value)]
