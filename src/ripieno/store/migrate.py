"""Schema migrations: forward-only, one transaction each.

Replicas that start at once queue on an advisory lock; the first applies, the others find
nothing to do. A replica that is older than the schema refuses to start rather than write
into tables it does not understand.
"""

import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from ripieno.domain.errors import InvalidRequestError, InvariantError

SCHEMA = "ripieno"

#: The key of the advisory lock: "ripieno" in ASCII, so that it is found in pg_locks.
_LOCK = int.from_bytes(b"ripieno")

_FILE = re.compile(r"^(?P<version>\d{4})_(?P<name>\w+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str


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

    Guarantee: each migration is applied exactly once, whole or not at all, however many
    replicas call this at the same time.

    Raises:
        InvalidRequestError: the database is newer than this release.
    """
    migrations = load_migrations()
    for migration in [None, *migrations]:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
            if migration is None:
                await _create_schema(connection, schema, newest=len(migrations))
            elif not await connection.fetchval("select true from migrations where version = $1", migration.version):
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into migrations (version, name) values ($1, $2)", migration.version, migration.name
                )
    return len(migrations)


async def _create_schema(connection: asyncpg.Connection, schema: str, newest: int) -> None:
    if not await connection.fetchval("select to_regclass($1)", f"{schema}.migrations"):
        await connection.execute(f'create schema if not exists "{schema}"')
        await connection.execute(
            f'create table "{schema}".migrations '
            "(version integer primary key, name text not null, applied_at timestamptz not null default now())"
        )
    await connection.execute(f'set search_path to "{schema}"')
    version = await connection.fetchval("select coalesce(max(version), 0) from migrations")
    if version > newest:
        raise InvalidRequestError(
            "database",
            f"its schema is at version {version}, newer than this release knows ({newest});"
            " upgrade this replica, or give it another database",
        )
