"""Results that clients create, and complete with data of their own.

Such a result has an id that the server makes (``domain.result_ids``), which is its key, and no owner. It is CREATED until
data is there for it: at once, by an upload, or because a task that is submitted later announces the key as an
output and so becomes the owner. What waits for the result is promoted by the transaction that completes it, as in a commit.

The order of locks is that of ``ripieno.store``: the gate, shared; new rows of results; existing rows; dependents.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import (
    ConflictError,
    NotFoundError,
    SessionCancelledError,
    SubmissionStoppedError,
    UnavailableError,
)
from ripieno.domain.result_ids import result_id
from ripieno.domain.statuses import TAKES_TASKS, ResultStatus, SessionStatus
from ripieno.store.attempts.blobs import BlobNumbers
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.gates import gates
from ripieno.store.database.numbers import Numbers
from ripieno.store.database.queries import Queries
from ripieno.store.graph import promotions
from ripieno.store.graph.creation import link_objects, written_rows
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import KnownSession

_SQL = Queries("results")

#: A key of ours was named by a client before we made it: others are made, so often.
_TRIES = 3


class NewResult(NamedTuple):
    """A result to be created: the name by which people know it, and its data; None if that is to come later."""

    name: str
    data: Data | None


class Standing(NamedTuple):
    """What is known of a result without its data.

    Attributes:
        owner_id: The task that makes it; None if none does.
        size: Bytes of its data; 0 if it has none.
    """

    status: ResultStatus
    name: str | None
    owner_id: str | None
    size: int


class ClientResults:
    """Creates and completes results that no task makes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._result_numbers = Numbers(database, _SQL.next_block)
        self._blob_numbers = BlobNumbers(database)

    async def create(self, session: KnownSession, new: Sequence[NewResult]) -> tuple[list[str], Changes]:
        """Create results, all or none, durably: COMPLETED with their data where they bring some, else CREATED.

        Returns:
            The ids in the order of ``new``; and the changes.

        Raises:
            ConflictError: the session takes no more results, or large data are gone; nothing was created.
            OutcomeUnknownError: the database went away during the commit; if the results were created all the same,
                nobody knows their ids.
        """
        for _ in range(_TRIES):
            numbers = await self._result_numbers.take(len(new))
            keys = [result_id(session.session_no, number) for number in numbers]
            blobs = iter(await self._blob_numbers.take(sum(each.data is not None for each in new)))
            blob_nos = [None if each.data is None else next(blobs) for each in new]
            write = partial(_create, session=session, new=new, keys=keys, blob_nos=blob_nos)
            with suppress(_KeyTakenError):
                await self._database.transaction(
                    write, opening=gates([session.session_no]), incarnation=session.incarnation
                )
                changes = Changes({session.session_no})
                for key, each in zip(keys, new, strict=True):
                    if each.data is not None:
                        changes.add_completed(session.session_no, key, each.data)
                return keys, changes
        raise UnavailableError("ids of new results were named by others before; nothing was created, try again")

    async def complete(self, session: KnownSession, key: str, data: Data) -> Changes:
        """Complete a CREATED result that no task owns, durably. The same data once more is a success without effect.

        Raises:
            NotFoundError: the session has no such result.
            ConflictError: the result has other data, is aborted or deleted, or is an output of a task; or large
                data are gone. Nothing has changed.
        """
        [number] = await self._blob_numbers.take(1)
        write = partial(_complete, session_no=session.session_no, key=key, number=number, data=data)
        return await self._database.transaction(
            write, opening=gates([session.session_no]), incarnation=session.incarnation
        )

    async def find(self, session: KnownSession, key: str) -> Standing:
        """Return what is known of a result.

        Raises:
            NotFoundError: the session has no such result.
        """
        async with self._database.connection(session.incarnation) as connection:
            row = await connection.fetchrow(_SQL.find, session.session_no, key)
        if row is None or row["status"] == ResultStatus.NAMED:
            raise unknown(key)
        return Standing(ResultStatus(row["status"]), row["name"], row["owner_id"], row["size"] or 0)


def unknown(key: str) -> NotFoundError:
    """Return the error for a result that a session does not have."""
    return NotFoundError(f"result {key!r} does not exist in this session; create it first")


def check_uploadable(key: str, standing: Standing) -> None:
    """Check that data may be sent for a result: that it is CREATED or COMPLETED, and no task makes it.

    Raises:
        ConflictError: it may not.
    """
    if standing.owner_id is not None:
        raise ConflictError(f"result {key!r} is an output of task {standing.owner_id!r}, which makes it")
    if standing.status.unobtainable:
        raise ConflictError(f"result {key!r} is {standing.status.name}, and takes no data; create another one")


async def check_session_open(connection: Connection, session: KnownSession) -> None:
    """Check, with the gate held, that a session takes results.

    Raises:
        NotFoundError: it was deleted.
        SubmissionStoppedError: it does not.
    """
    status = await connection.fetchval(_SQL.session_status, session.session_no)
    if status is None:
        raise NotFoundError(f"session {session.id!r} was deleted")
    if status == SessionStatus.CANCELLED:
        raise SessionCancelledError(session.id)
    if status not in TAKES_TASKS:
        raise SubmissionStoppedError(session.id, f"is {SessionStatus(status).name}")


async def _create(
    connection: Connection,
    session: KnownSession,
    new: Sequence[NewResult],
    keys: Sequence[str],
    blob_nos: Sequence[int | None],
) -> None:
    await check_session_open(connection, session)
    tag = await connection.execute(
        _SQL.create_results,
        session.session_no,
        keys,
        [each.name for each in new],
        blob_nos,
        [each.data if isinstance(each.data, bytes) else None for each in new],
        [None if each.data is None else size_of(each.data) for each in new],
    )
    if written_rows(tag) != len(keys):
        raise _KeyTakenError
    await link_objects(
        connection,
        [
            (number, each.data)
            for number, each in zip(blob_nos, new, strict=True)
            if number is not None and isinstance(each.data, StoredObject)
        ],
    )


async def _complete(connection: Connection, session_no: int, key: str, number: int, data: Data) -> Changes:
    row = await connection.fetchrow(_SQL.complete_unowned, session_no, key, number, size_of(data))
    assert row is not None  # a function has one row
    if row["status_before"] in (None, ResultStatus.NAMED):
        raise unknown(key)
    status = ResultStatus(row["status_before"])
    if status is ResultStatus.COMPLETED and not row["owned"]:
        await _check_same(connection, session_no, key, data)
        return Changes()
    if row["owned"] or status is not ResultStatus.CREATED:
        found = await connection.fetchrow(_SQL.find, session_no, key)
        assert found is not None  # we have locked it
        check_uploadable(key, Standing(status, found["name"], found["owner_id"], 0))
        raise ConflictError(f"result {key!r} is {status.name}, and takes no data")
    if isinstance(data, StoredObject):
        await link_objects(connection, [(number, data)])
    else:
        await connection.execute(_SQL.insert_blob, number, data)
    changes = Changes({session_no})
    changes.add_completed(session_no, key, data)
    if row["awaited"]:
        changes.add(await promotions.begin(connection, [(session_no, key)]))
    return changes


async def _check_same(connection: Connection, session_no: int, key: str, data: Data) -> None:
    row = await connection.fetchrow(_SQL.data_of, session_no, key)
    assert row is not None, "INV-13: a completed result has data"
    stored = row["sha256"] if row["data"] is None else hashlib.sha256(row["data"]).digest()
    if (row["size"], stored) != (size_of(data), digest_of(data)):
        raise ConflictError(
            f"result {key!r} is complete, and has other data: {row['size']} bytes with SHA-256 {stored.hex()}, not"
            f" {size_of(data)} bytes with {digest_of(data).hex()}; data of a result never changes, create another one"
        )


def size_of(data: Data) -> int:
    """Return the size of data in bytes."""
    return data.size if isinstance(data, StoredObject) else len(data)


def digest_of(data: Data) -> bytes:
    """Return the SHA-256 of data."""
    return data.sha256 if isinstance(data, StoredObject) else hashlib.sha256(data).digest()


class _KeyTakenError(Exception):
    """A key that the server made was named by a client before; the transaction is rolled back."""
