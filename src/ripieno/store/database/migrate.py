"""Schema migrations: forward-only, in steps, while the release before goes on serving.

If several replicas start at the same time, the one that gets an advisory lock applies the migrations; the others
ask for the lock until they get it, and then find nothing to do. A replica that is older than the schema refuses to
start rather than write into tables it does not understand.

A migration is a file of SQL. It is one transaction, unless it is divided into steps, each of
which is committed and noted before the next begins, so that an interrupted migration goes on
where it stopped:

``-- step: together``
    One transaction. It waits 200 ms for a lock, since everybody else queues behind it meanwhile,
    and is tried again.
``-- step: alone``
    One statement outside a transaction: ``create index concurrently``.
``-- step: repeat``
    One statement that changes some rows (a few thousand). It is run until it finds none
    to change, each time in a transaction of its own and with a pause after it.

``docs/adr/0020-migrations.md`` says what a migration may do so that nobody has to wait for it.

Statements that name a schema or an index, and settings, are composed here; all others are in ``sql/migrations.sql``.
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
from ripieno.store.database.queries import Queries

_log = structlog.get_logger(__name__)

SCHEMA = "ripieno"

#: The key of the advisory lock: "ripieno" in ASCII, so that it is found in pg_locks.
_LOCK = int.from_bytes(b"ripieno")

_FILE = re.compile(r"^(?P<version>\d{4})_(?P<name>\w+)\.sql$")

_STEP = re.compile(r"^-- step: (?P<kind>\w+)$", re.MULTILINE)

_KINDS = ("together", "alone", "repeat")

#: Milliseconds that a step waits for a lock before others have their turn, and how often it tries in all.
_LOCK_WAIT_MS = 200
_TRIES = 500

_SQL = Queries("migrations")


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a migration, committed by itself."""

    kind: str
    sql: str


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration: brings the schema from the version before to ``version``."""

    version: int
    name: str
    sql: str

    def steps(self) -> list[Step]:
        """Return the steps of the migration, in order.

        Raises:
            InvariantError: a step is of an unknown kind.
        """
        before, *rest = _STEP.split(self.sql)
        steps = [Step("together", before)] if not rest else []
        steps += [Step(kind, sql) for kind, sql in zip(rest[::2], rest[1::2], strict=True)]
        if unknown := [step.kind for step in steps if step.kind not in _KINDS]:
            raise InvariantError(f"migration {self.version} has steps of unknown kinds: {unknown}")
        return steps


def load_migrations() -> list[Migration]:
    """Return all migrations of this release, oldest first.

    Raises:
        InvariantError: two have the same version.
    """
    found = [
        Migration(int(match["version"]), match["name"], entry.read_text())
        for entry in files("ripieno.store.migrations").iterdir()
        if (match := _FILE.match(entry.name))
    ]
    found.sort(key=lambda migration: migration.version)
    # A number may be left out: several migrations are written at a time, and each keeps the number that it was given.
    if len({migration.version for migration in found}) < len(found):
        raise InvariantError(f"two migrations have the same number: {[m.version for m in found]}")
    return found


async def migrate(connection: asyncpg.Connection, schema: str = SCHEMA) -> int:
    """Bring the schema up to this release and return its version.

    Guarantee: each step of each migration is applied exactly once, whole or not at all (a
    ``repeat`` once at least), however many replicas call this at the same time.

    Raises:
        InvalidRequestError: the database is newer than this release.
    """
    migrations = load_migrations()
    # The session holds the lock, and takes it before any transaction begins: a transaction that began before would
    # not see what others have created while it waited. The lock is polled: a statement that waits for it would hold
    # a snapshot, and an index that is built concurrently waits for all snapshots.
    while not await connection.fetchval(_SQL.try_lock, _LOCK):  # noqa: ASYNC110 - no event tells that it is free
        await asyncio.sleep(_LOCK_WAIT_MS / 1000)
    try:
        async with connection.transaction():
            applied = await _create_schema(connection, schema, newest=migrations[-1].version)
        for migration in migrations:
            if migration.version not in applied:
                await _apply(connection, migration)
    finally:
        if not connection.is_closed():
            await connection.execute(_SQL.unlock, _LOCK)
    return migrations[-1].version


async def _create_schema(connection: asyncpg.Connection, schema: str, newest: int) -> set[int]:
    if not await connection.fetchval(_SQL.find_table, f"{schema}.migrations"):
        await connection.execute(f'create schema if not exists "{schema}"')
        await connection.execute(
            f'create table "{schema}".migrations '
            "(version integer primary key, name text not null, applied_at timestamptz not null default now())"
        )
    await connection.execute(f'set search_path to "{schema}"')
    await connection.execute(_SQL.create_steps)
    applied = {row["version"] for row in await connection.fetch(_SQL.applied)}
    if max(applied, default=0) > newest:
        raise InvalidRequestError(
            "database",
            f"its schema is at version {max(applied)}, newer than this release knows ({newest});"
            " upgrade this replica, or give it another database",
        )
    return applied


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    steps = migration.steps()
    done = await connection.fetch(_SQL.steps_done, migration.version)
    for number in range(len(done), len(steps)):
        if len(steps) > 1:
            _log.info("migrating", migration=migration.name, step=number + 1, of=len(steps), kind=steps[number].kind)
        await _patiently(partial(_take, connection, steps[number], partial(_note, connection, migration, number)))


async def _note(connection: asyncpg.Connection, migration: Migration, number: int) -> None:
    await connection.execute(_SQL.note_step, migration.version, number)
    if number == len(migration.steps()) - 1:
        await connection.execute(_SQL.note_migration, migration.version, migration.name)


async def _take(connection: asyncpg.Connection, step: Step, note: Callable[[], Awaitable[None]]) -> None:
    if step.kind == "alone":
        for row in await connection.fetch(_SQL.invalid_indexes):
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
        await asyncio.sleep(time.monotonic() - began)  # as long as the step took: half of the time is left to others


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    """Run a step, again if a lock was not granted in time or crossed another one, up to ``_TRIES`` times."""
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
