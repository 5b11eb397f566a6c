"""One connection to PostgreSQL: how it is opened, what is set on it, and whom it speaks to.

Whatever the role, the database or a pooler in between has set, a session of ours has the
settings it needs: they are set by statements once it is open, not by parameters of its start,
which poolers refuse.

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

#: A server that does not answer a new connection within this is taken to be away.
CONNECT_S = 5.0

#: The longest that a statement may take, so that nothing waits for ever; far above what any of
#: ours takes when all is well. The server gives up then, and so do we a little later.
STATEMENT_S = 120.0

#: A host that vanished is noticed by the kernels of both sides within about this.
_SILENCE_S = 8

SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "enable_memoize": "off",
    "enable_seqscan": "off",
    "jit": "off",
    # What is left to choose from, whatever a role or a database has set.
    "enable_nestloop": "on",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_bitmapscan": "on",
    "enable_tidscan": "on",
    "enable_sort": "on",
    # What a role or a database may have set otherwise, and our statements rest on.
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "statement_timeout": f"{STATEMENT_S:.0f}s",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    # A replica that is stopped inside a transaction holds locks that others wait for. Ours idle there for
    # the time of a round trip.
    "idle_in_transaction_session_timeout": "10s",
    # For the server's side of the connection (nothing on a unix socket).
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{_SILENCE_S}s",
}
#: Settings that older servers do not know, by the first major version that does.
_SINCE = {17: {"transaction_timeout": "0"}}

#: Who is at the other end. A server that was started anew, however much it forgot by that, has
#: another time of start; another database has another cluster id; one that was restored, or is a copy, is
#: another database of its server, or holds other tables.
_WHO = """
select pg_backend_pid() as pid, extract(epoch from pg_postmaster_start_time())::text as started,
       pg_is_in_recovery() as standby, current_setting('transaction_read_only')::boolean as read_only,
       (select source from pg_settings where name = 'default_transaction_read_only') as read_only_by,
       current_setting('server_encoding') as encoding, current_user::text as role,
       (select oid::bigint from pg_database where datname = current_database()) as database,
       to_regclass($1)::oid::bigint as home
"""

#: A role for which commits do not wait for the disk would make a lie of what we promise. What
#: waits for more than the disk (standbys) is left as it is.
_DURABLE = "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'"
_RELAXED = "set synchronous_commit = off"

Row = asyncpg.Record

T = TypeVar("T")


class Identity(NamedTuple):
    """Which incarnation of a database it is: what was read from one is not valid for another.

    Attributes:
        started: When its server was.
        database: Its number there.
        home: The number of our table ``cluster`` in it; None where it does not hold our schema.
        cluster_id: What that table says.
    """

    started: str
    database: int
    home: int | None
    cluster_id: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is and how sessions on it are made.

    Attributes:
        url: May hold a password.
        schema: Where our tables are.
        name: Of our sessions, as administrators see it.
    """

    url: str
    schema: str
    name: str

    @property
    def home(self) -> str:
        """The table that says whose database it is."""
        return f'"{self.schema}".cluster'

    @property
    def shown(self) -> str:
        """The URL without its password."""
        scheme, separator, rest = self.url.partition("://")
        credentials, at, place = rest.rpartition("@")
        user = credentials.partition(":")[0]
        return f"{scheme}{separator}{user}{at}{place}" if at else self.url


class Connection:
    """A session on the database. Every failure it raises is one of ours (``store.database.faults``).

    Attributes:
        pid: The server's process behind it.
        identity: Of the database.
        incarnation: Number of that identity, as the ``Database`` counts them; set by its owner.
        doomed: It is to be closed once nobody uses it.
        busy_since: When the statement under way began (monotonic clock); None between statements.
        statement_no: Counts statements, so that one can be told from the next.
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
        """Run a statement, or several without arguments; return the last one's tag."""
        return await self._run(self._raw.execute, statement, *arguments)

    async def listen(self, channel: str, heard: Callable[[object, int, str, object], None]) -> None:
        """Call ``heard`` for each notification of a channel."""
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
        """Whether it can be used no more."""
        return self._raw.is_closed()

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open on it."""
        return self._raw.is_in_transaction()

    def on_closed(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when it breaks or is closed; at once if it is already."""
        if self._raw.is_closed():
            tell()
        else:
            self._raw.add_termination_listener(lambda _raw: tell())

    def terminate(self) -> None:
        """End it now; a statement under way raises ``ConnectionLostError``."""
        with suppress(asyncpg.InterfaceError):
            self._raw.terminate()

    async def close(self) -> None:
        """Say goodbye and end it."""
        with suppress(OSError, asyncpg.InterfaceError, asyncpg.PostgresError, asyncpg.InternalClientError):
            await self._raw.close(timeout=1)


async def connect(place: Place, *, relaxed: bool = False) -> Connection:
    """Open a session.

    Args:
        relaxed: Its commits do not wait for the disk.

    Raises:
        ConnectionLostError, NoRoomForConnectionError: the server cannot be reached, or takes no more.
        NotWritableError: it takes no writes at present.
        RefusedError: it refuses us.
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
    # Piece by piece, the time-outs first: a role may have set one of a millisecond.
    first = ";".join(f"set {name} = '{value}'" for name, value in settings.items())
    await raw.execute(f'{first};set search_path = "{place.schema}"')
    await raw.execute(_RELAXED if relaxed else _DURABLE)
    who = await raw.fetchrow(_WHO, place.home)
    assert who is not None  # it has one row always
    _check(who, place)
    cluster_id = await raw.fetchval("select cluster_id::text from cluster") if who["home"] else None
    return Connection(raw, who["pid"], Identity(who["started"], who["database"], who["home"], cluster_id))


def _check(who: Row, place: Place) -> None:
    """Refuse a server that cannot be used: for now (raises NotWritableError), or as it is set up."""
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
    """Let the kernel notice that the other host has vanished. Unix sockets have no other host."""
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
        with suppress(OSError):  # a convenience that some sandboxes refuse; silence is noticed without it
            sock.setsockopt(*option)


def _named(name: str, value: int) -> list[tuple[int, int, int]]:
    number = getattr(socket, name, None)
    return [] if number is None else [(socket.IPPROTO_TCP, number, value)]
