"""Import of objects that lie in the object store already: they are linked as they stand, not copied."""

from collections.abc import Mapping
from functools import partial

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import ConflictError
from ripieno.domain.statuses import ResultStatus
from ripieno.store.attempts.blobs import BlobNumbers
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.gates import gates
from ripieno.store.database.queries import Queries
from ripieno.store.graph import promotions
from ripieno.store.results.client_results import Standing, check_uploadable, unknown
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import KnownSession

_SQL = Queries("results")


async def import_objects(
    database: Database, numbers: BlobNumbers, session: KnownSession, objects: Mapping[str, StoredObject]
) -> Changes:
    """Complete CREATED results that no task owns with objects, all or none, durably.

    A result that has the same object already is left as it is.

    Args:
        database: The database.
        numbers: Hands out numbers for the data.
        session: The session of the results.
        objects: Keys, each with the object that becomes its data.

    Raises:
        NotFoundError: the session has no such result.
        ConflictError: a result takes no data, or an object is linked by another one. Nothing has changed.
    """
    ordered = sorted(objects.items())
    taken = await numbers.take(len(ordered))
    write = partial(_import, session_no=session.session_no, objects=dict(zip(taken, ordered, strict=True)))
    return await database.transaction(write, opening=gates([session.session_no]), incarnation=session.incarnation)


async def _import(connection: Connection, session_no: int, objects: Mapping[int, tuple[str, StoredObject]]) -> Changes:
    for name in sorted(stored.name for _, stored in objects.values()):
        await connection.execute(_SQL.lock_object, name)
    changes = Changes({session_no})
    awaited = []
    for number, (key, stored) in objects.items():
        row = await connection.fetchrow(_SQL.complete_unowned, session_no, key, number, stored.size)
        assert row is not None  # a function has one row
        if row["status_before"] in (None, ResultStatus.NAMED):
            raise unknown(key)
        status = ResultStatus(row["status_before"])
        found = await connection.fetchrow(_SQL.find, session_no, key)
        assert found is not None  # it is locked
        check_uploadable(key, Standing(status, found["name"], found["owner_id"], 0))
        if status is ResultStatus.COMPLETED:
            if found["object"] != stored.name:
                raise ConflictError(f"result {key!r} is complete, and has other data; create another result")
            continue
        if await connection.fetchrow(_SQL.link_import, number, stored.size, stored.name, stored.sha256) is None:
            raise ConflictError(
                f"object {stored.name!r} is the data of another result, or was that of a deleted one;"
                " put a copy under another name, and import that"
            )
        changes.add_completed(session_no, key, stored)
        if row["awaited"]:
            awaited.append((session_no, key))
    if awaited:
        changes.add(await promotions.begin(connection, awaited))
    return changes
