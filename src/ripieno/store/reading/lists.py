"""Lists: pages and totals of sessions, tasks, attempts, results, agents, partitions and options.

A page and its total are read from one snapshot. Lists have two sessions of their own on the database: at most two of
their statements run at a time, and what these sessions have prepared displaces no statement of the hot paths. Each
statement may take a bounded time; a query that needs more is refused with the words that make it shorter. Lists lock
nothing.

Plans are made for each statement with its values and with all ways of joining, unlike those of the hot paths
(``store.database.connections``): nobody knows beforehand what is asked.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from ripieno.domain.catalogue import Field, Kind, Listed, carried
from ripieno.domain.errors import LimitError
from ripieno.domain.options import TaskOptions
from ripieno.domain.queries import CheckedQuery, Operator, Tests
from ripieno.store.database.connections import Connection
from ripieno.store.database.database import Database
from ripieno.store.database.faults import StatementCancelledError
from ripieno.store.database.queries import Queries
from ripieno.store.reading.compiler import Compiler, Statement
from ripieno.store.reading.cursors import Cursors
from ripieno.store.reading.terms import Arm

_SQL = Queries("lists")

#: Statements of lists that run at a time.
_SESSIONS = 2
#: How long a statement of a list may take, in seconds, unless a setting says otherwise.
TIMEOUT_S = 2.0
#: The most bytes of a page, about: clients refuse messages of 4 MiB.
_LARGEST_PAGE_BYTES = 3_500_000
#: What a row and each of its fields count beside their texts.
_FIELD_BYTES = 16

Row = Mapping[str, Any]

#: Not in ``sql/``: settings of a transaction, composed with its time-out and sent with ``begin``.
_BEGIN = (
    "begin isolation level repeatable read, read only;"
    "set local plan_cache_mode = force_custom_plan; set local enable_hashjoin = on; set local enable_mergejoin = on;"
    "set local enable_material = on; set local enable_memoize = on; set local enable_seqscan = on;"
    "set local max_parallel_workers_per_gather = 0;"
)


@dataclass(frozen=True, slots=True)
class PageOfRows:
    """A page of a list.

    Attributes:
        rows: The rows, each with the fields asked for; None for a field without a value.
        next_cursor: Where the next page begins; empty at the end.
        total: How many rows match; None if nobody asked.
    """

    rows: Sequence[Row]
    next_cursor: str
    total: int | None


class Lists:
    """Answers queries.

    Args:
        database: The database.
        timeout_s: How long a statement may take.
    """

    def __init__(self, database: Database, timeout_s: float = TIMEOUT_S) -> None:
        self._pool = database.own_sessions(_SESSIONS)
        self._timeout_s = timeout_s
        self._cursors: Cursors | None = None
        database.on_new_incarnation.append(self._forget)

    async def page(self, query: CheckedQuery) -> PageOfRows:
        """Return a page of the rows that match.

        Raises:
            InvalidRequestError: the cursor is not one of this query.
            LimitError: the query takes too long, or the page would be too large for one message.
            UnavailableError: the database cannot be reached, or its sessions for lists were busy for too long.
        """
        async with self.snapshot(f"narrow the filter: {carried(query.listed)}") as connection:
            compiler = Compiler(query)
            after = (await self._sealed(connection)).open(query) if query.cursor else None
            total = await _total(connection, compiler, query) if query.with_total else None
            if not query.page_size or not compiler.arms:
                return PageOfRows([], "", total)
            positions = [tuple(row) for row in await _fetch(connection, compiler.page(after))]
            more, positions = len(positions) > query.page_size, positions[: query.page_size]
            next_cursor = (await self._sealed(connection)).seal(query, positions[-1]) if more else ""
            keys = compiler.keys_of(positions)
            return PageOfRows(await _rows(connection, compiler, query, keys, len(next_cursor)), next_cursor, total)

    async def count(self, listed: Listed, any_of: Tests) -> int:
        """Return how many rows match; raises the errors of ``page``."""
        query = CheckedQuery(listed, any_of, (), (), 0, "", 0, with_total=True)
        total = (await self.page(query)).total
        assert total is not None  # asked for
        return total

    def _forget(self) -> None:
        self._cursors = None

    async def _sealed(self, connection: Connection) -> Cursors:
        if self._cursors is None:
            self._cursors = Cursors((await connection.fetchval(_SQL.cursor_secret)).bytes)
        return self._cursors

    @asynccontextmanager
    async def snapshot(self, way_out: str) -> AsyncIterator[Connection]:
        """Lend a session in a transaction that sees one state of the database and changes nothing.

        Args:
            way_out: What is said to whoever asks for too much.

        Raises:
            LimitError: a statement takes too long.
            UnavailableError: the database cannot be reached, or its sessions for lists were busy for too long.
        """
        async with self._pool.acquire() as connection:
            try:
                await connection.execute(f"{_BEGIN}set local statement_timeout = {max(int(self._timeout_s * 1000), 1)}")
                yield connection
                await connection.execute("commit")
            except StatementCancelledError as error:
                await _roll_back(connection)
                raise LimitError(
                    f"limit list_timeout is {self._timeout_s:g} s, and this query takes longer; {way_out}",
                    "list_timeout",
                ) from error
            except Exception:
                await _roll_back(connection)
                raise


async def _roll_back(connection: Connection) -> None:
    if not connection.is_closed() and connection.is_in_transaction():
        await connection.execute("rollback")


async def _fetch(connection: Connection, statement: Statement) -> list[asyncpg.Record]:
    return await connection.fetch(statement.text, *statement.parameters)


async def _total(connection: Connection, compiler: Compiler, query: CheckedQuery) -> int:
    if not compiler.arms:
        return 0
    if query.listed is Listed.TASKS and len(compiler.arms) == 1 and (counted := _counted(compiler.arms[0])):
        total = await connection.fetchval(_SQL.total_of_counts, *counted)
    else:
        statement = compiler.total()
        total = await connection.fetchval(statement.text, *statement.parameters)
    return int(total)


def _counted(arm: Arm) -> tuple[list[str] | None, list[int] | None] | None:
    """Return ids of sessions and statuses (None: all) if a filter has no other conditions: these are counted already."""
    wanted: dict[str, list[Any]] = {}
    for field, operator, values in arm:
        if operator is not Operator.EQUAL or field.name not in ("session_id", "status") or field.name in wanted:
            return None
        wanted[field.name] = list(values)
    return wanted.get("session_id"), wanted.get("status")


async def _rows(
    connection: Connection, compiler: Compiler, query: CheckedQuery, keys: Sequence[Sequence[Any]], size: int
) -> list[Row]:
    """Return what is told of the rows with these keys; ``size`` is how many bytes the reply has without them."""
    rows: list[Row] = []
    while len(rows) < len(keys):
        found = await _fetch(connection, compiler.details(keys[len(rows) :]))
        assert found, "one snapshot has all rows of its keys"
        for record in found:
            row = {field.name: _value(field, record) for field in query.fields}
            size += sum(_FIELD_BYTES + _bytes_of(value) for value in row.values())
            rows.append(row)
            if size > _LARGEST_PAGE_BYTES:
                raise LimitError(
                    f"{len(rows):,} rows of this page of {len(keys):,} are {size:,} bytes already, and a message has"
                    f" {_LARGEST_PAGE_BYTES:,} at most; lower page_size, or name fewer fields",
                    "bytes_per_page",
                )
    return rows


def _value(field: Field, record: asyncpg.Record) -> Any:
    if field.kind is Kind.OPTIONS:
        free = json.loads(record[f"{field.name}_options"])
        max_duration_us, max_retries, priority = (
            record[f"{field.name}_{name}"] for name in ("max_duration_us", "max_retries", "priority")
        )
        return TaskOptions(max_duration_us, max_retries, priority, free)
    value = record[field.name]
    if value is None:
        return None
    if field.kind is Kind.DURATION:
        return timedelta(microseconds=value)
    if field.kind is Kind.STATUS:
        return type(field.statuses[0])(value)
    return value


def _bytes_of(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, TaskOptions):
        return value.free_bytes + 10 * len(value.options) + _FIELD_BYTES
    return sum(len(each.encode()) + 4 for each in value) if isinstance(value, list) else 0
