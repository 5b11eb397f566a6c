"""Schema migrations: forward-only, in steps, while the release before goes on serving.

Of replicas that start at once the one that gets an advisory lock applies, the others ask for it
again and again, and then find nothing to do. A replica that is older than the schema refuses to start rather than write
into tables it does not understand.

A migration is a file of SQL. It is one transaction, unless it is divided into steps, each of
which is committed and noted before the next begins, so that one that was interrupted goes on
where it was:

``-- step: together``
    One transaction. It waits for a lock for a moment only, since everybody else would wait
    behind it, and is tried again.
``-- step: alone``
    One statement outside a transaction: ``create index concurrently``.
``-- step: repeat``
    One statement that changes some rows (a few thousand), again and again until it finds none
    to change, each time in a transaction of its own and with a pause after it.

What a migration may do so that nobody has to wait for it: ``docs/adr/0020-migrations.md``.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import asyncpg
import structlog

from ripieno.domain.errors import InvalidRequestError, InvariantError

_log = structlog.get_logger(__name__)

SCHEMA = "ripieno"

#: The key of the advisory lock: "ripieno" in ASCII, so that it is found in pg_locks.
_LOCK = int.from_bytes(b"ripieno")

_FILE = re.compile(r"^(?P<version>\d{4})_(?P<name>\w+)\.sql$")

_STEP = re.compile(r"^-- step: (?P<kind>\w+)$", re.MULTILINE)

_KINDS = ("together", "alone", "repeat")

#: A step waits so long for a lock, then others have their turn; and so often in all.
_LOCK_WAIT_MS = 200
_TRIES = 500

#: Whoever was interrupted in the middle of an index that is built concurrently leaves one that is of no use.
_INVALID = """
select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
where not i.indisvalid and c.relnamespace = current_schema()::regnamespace
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a migration that is committed by itself."""

    kind: str
    sql: str


@dataclass(frozen=True, slots=True)
class Migration:
    """One version of the schema, from the one before."""

    version: int
    name: str
    sql: str

    def steps(self) -> list[Step]:
        """Its steps, in order.

        Raises:
            InvariantError: a step is of no kind that there is.
        """
        before, *rest = _STEP.split(self.sql)
        steps = [Step("together", before)] if not rest else []
        steps += [Step(kind, sql) for kind, sql in zip(rest[::2], rest[1::2], strict=True)]
        if unknown := [step.kind for step in steps if step.kind not in _KINDS]:
            raise InvariantError(f"migration {self.version} has steps of unknown kinds: {unknown}")
        return steps


def load_migrations() -> list[Migration]:
    """All migrations of this release, oldest first.

    Raises:
        InvariantError: the versions are not 1, 2, 3...
    """
    found = [
        Migration(int(match["version"]), match["name"], entry.read_text())
        for entry in files("ripieno.store.migrations").iterdir()
        if (match := _FILE.match(entry.name))
    ]
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise InvariantError(f"migrations are not numbered without a gap: {[m.version for m in found]}")
    return found


async def migrate(connection: asyncpg.Connection, schema: str = SCHEMA) -> int:
    """Bring the schema up to this release and return its version.

    Guarantee: each step of each migration is applied exactly once, whole or not at all (a
    ``repeat`` once at least), however many replicas call this at the same time.

    Raises:
        InvalidRequestError: the database is newer than this release.
    """
    migrations = load_migrations()
    # Held by the session, and taken before any transaction begins: one that began before would
    # not know what others have created while it waited. Whoever waits asks again and again: a statement that
    # waits holds a snapshot, and an index that is built concurrently waits for all those.
    while not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):  # noqa: ASYNC110 - it is told to nobody
        await asyncio.sleep(_LOCK_WAIT_MS / 1000)
    try:
        async with connection.transaction():
            applied = await _create_schema(connection, schema, newest=len(migrations))
        for migration in migrations:
            if migration.version not in applied:
                await _apply(connection, migration)
    finally:
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1)", _LOCK)
    return len(migrations)


async def _create_schema(connection: asyncpg.Connection, schema: str, newest: int) -> set[int]:
    if not await connection.fetchval("select to_regclass($1)", f"{schema}.migrations"):
        await connection.execute(f'create schema if not exists "{schema}"')
        await connection.execute(
            f'create table "{schema}".migrations '
            "(version integer primary key, name text not null, applied_at timestamptz not null default now())"
        )
    await connection.execute(f'set search_path to "{schema}"')
    await connection.execute(
        "create table if not exists migration_steps"
        " (version integer not null, step integer not null, primary key (version, step))"
    )
    applied = {row["version"] for row in await connection.fetch("select version from migrations")}
    if max(applied, default=0) > newest:
        raise InvalidRequestError(
            "database",
            f"its schema is at version {max(applied)}, newer than this release knows ({newest});"
            " upgrade this replica, or give it another database",
        )
    return applied


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    steps = migration.steps()
    done = await connection.fetch("select step from migration_steps where version = $1", migration.version)
    for number in range(len(done), len(steps)):
        if len(steps) > 1:
            _log.info("migrating", migration=migration.name, step=number + 1, of=len(steps), kind=steps[number].kind)
        await _patiently(partial(_take, connection, steps[number], partial(_note, connection, migration, number)))


async def _note(connection: asyncpg.Connection, migration: Migration, number: int) -> None:
    await connection.execute("insert into migration_steps (version, step) values ($1, $2)", migration.version, number)
    if number == len(migration.steps()) - 1:
        await connection.execute(
            "insert into migrations (version, name) values ($1, $2)", migration.version, migration.name
        )


async def _take(connection: asyncpg.Connection, step: Step, note: Callable[[], Awaitable[None]]) -> None:
    if step.kind == "alone":
        for row in await connection.fetch(_INVALID):
            await connection.execute(f'drop index concurrently "{row["relname"]}"')
        await connection.execute(step.sql)
        async with connection.transaction():
            await note()
        return
    while True:
        began = time.monotonic()
        async with connection.transaction():
            await connection.execute(f"set local lock_timeout = {_LOCK_WAIT_MS}")
            changed = await connection.execute(step.sql)
            finished = step.kind == "together" or changed.rpartition(" ")[2] == "0"
            if finished:
                await note()
        if finished:
            return
        await asyncio.sleep(time.monotonic() - began)  # as long as it took: half of the time is for the others


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    """Do it again while a lock was not to be had in time."""
    for _ in range(_TRIES):
        try:
            return await work()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(random.uniform(0.5, 1.5) * _LOCK_WAIT_MS / 1000)  # noqa: S311 - no secret
    raise InvalidRequestError(
        "database",
        f"a migration has waited {_TRIES} times for a lock that another session holds;"
        " end what is open for long (pg_stat_activity), then start again",
    )
