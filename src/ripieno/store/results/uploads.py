"""Uploads that are under way: what of them is safe, so that a stream that broke can be continued.

The bytes of an upload are objects of their own, its *parts*, which are staged (``store.cluster.objects``) and noted
here once they are durable. The end of the upload joins them to the object that is linked, and gives them up. An upload that
nobody completes is given up after a day, when its parts are collected as garbage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import ConflictError, NotFoundError
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("results")

#: An upload may be continued for so long after its first part: objects that nobody links are deleted after a day.
_GIVEN_UP_AFTER = timedelta(hours=23)


@dataclass(slots=True)
class UnderWay:
    """An upload: the result that it is for, and the parts of it that are safe, in order."""

    upload_id: UUID
    session_no: int
    key: str
    parts: list[StoredObject] = field(default_factory=list)

    @property
    def offset(self) -> int:
        """How many bytes are safe."""
        return sum(part.size for part in self.parts)


async def find_upload(database: Database, upload_id: UUID) -> UnderWay:
    """Return an upload of which something is safe.

    Raises:
        NotFoundError: nothing of it is safe yet, or it is complete, or was given up.
    """
    rows = await database.fetch(_SQL.upload_parts, upload_id, _GIVEN_UP_AFTER)
    if not rows:
        raise NotFoundError(
            f"there is no upload {upload_id} of which anything is left: it is complete, or began a day ago, or nothing"
            " of it has arrived; ask for the result's status, and upload from the beginning"
        )
    parts: list[StoredObject] = []
    for row in rows:
        if row["first_byte"] != sum(part.size for part in parts):
            break  # two streams at a time have left a gap: what is behind it is not used
        parts.append(StoredObject(row["object"], row["size"], b""))
    return UnderWay(upload_id, rows[0]["session_no"], rows[0]["key"], parts)


async def note_part(database: Database, upload: UnderWay, part: StoredObject) -> None:
    """Note, durably, the next part of an upload.

    Raises:
        ConflictError: another stream has brought a part for the same place.
    """
    row = await database.fetchrow(
        _SQL.note_part, upload.upload_id, upload.session_no, upload.key, upload.offset, part.size, part.name
    )
    if row is None:
        raise ConflictError(
            f"upload {upload.upload_id} is continued by another stream; ask how far it has come, and go on from there"
        )
    upload.parts.append(part)


async def end_upload(database: Database, upload_id: UUID) -> Sequence[str]:
    """Drop what is noted of an upload; return the names of its objects, which are garbage."""
    return [row["object"] for row in await database.fetch(_SQL.end_upload, upload_id)]


async def forget_uploads(database: Database) -> None:
    """Drop what is noted of uploads that began more than a day ago."""
    while await database.fetch(_SQL.forget_uploads):
        pass
