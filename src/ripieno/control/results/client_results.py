"""The calls of the Results service about results that no task makes: creation, uploads, imports, deletion."""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import grpc.aio

from ripieno.config import ControlSettings
from ripieno.control.calls.limits import ControlLimits
from ripieno.control.calls.quotas import Quotas
from ripieno.control.results.uploads import Expected, Receiving, check_offset
from ripieno.control.waiting.notices import Notices
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.result_ids import session_of_result
from ripieno.domain.statuses import ResultStatus
from ripieno.domain.texts import is_encodable
from ripieno.store.attempts.blobs import BlobNumbers
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.store.results.client_results import ClientResults, NewResult, check_uploadable, digest_of, size_of, unknown
from ripieno.store.results.deletion import delete_data
from ripieno.store.results.imports import import_objects
from ripieno.store.results.uploads import UnderWay, find_upload
from ripieno.store.sessions.sessions import KnownSession, Sessions
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc

# The method names below are the protocol's.
# ruff: noqa: N802

#: Seconds after the end of a stream within which gRPC cancels the call if its client has gone away.
_CANCELLATION_FOLLOWS_S = 0.02

#: Names of objects that may be imported: below this folder, without a way out of it.
_IMPORTED = re.compile(r"import(/(?!\.{1,2}(/|$))[\w .+=@~-]+)+", re.ASCII)

#: The most objects in one import; each is read from end to end.
_MOST_IMPORTED = 1_000

#: The most bytes in a name of a result.
_LONGEST_NAME_BYTES = 1_024

_SHA256_BYTES = 32

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class ClientResultsParts:
    """The parts of a replica that these calls use."""

    settings: ControlSettings
    database: Database
    sessions: Sessions
    objects: ObjectStore
    notices: Notices
    quotas: Quotas
    limits: ControlLimits


class ClientResultsCalls(results_pb2_grpc.ResultsServicer):
    """Implements the calls; the other calls of the service are added by subclasses."""

    def __init__(self, parts: ClientResultsParts) -> None:
        self._parts = parts
        self._store = ClientResults(parts.database)
        self._numbers = BlobNumbers(parts.database)

    async def Create(
        self, request: results_pb2.CreateResultsRequest, context: Context
    ) -> results_pb2.CreateResultsReply:
        """Create results, all or none; they are durable when the reply is sent."""
        check_identifier("session_id", request.session_id)
        for index, entry in enumerate(request.entries):
            _check_name(f"entries[{index}].name", entry.name)
        session = await self._parts.sessions.find(request.session_id)
        sizes = [len(entry.data) for entry in request.entries]
        await self._parts.quotas.admit(session.session_no, 0, sum(sizes))
        new = [
            NewResult(entry.name, await self._stored(entry.data) if entry.HasField("data") else None)
            for entry in request.entries
        ]
        reply = results_pb2.CreateResultsReply()
        if not new:
            return reply
        keys, changes = await self._store.create(session, new)
        self._parts.notices.publish(changes)
        for key, each in zip(keys, new, strict=True):
            status = ResultStatus.CREATED if each.data is None else ResultStatus.COMPLETED
            size = 0 if each.data is None else size_of(each.data)
            reply.entries.add(key=key, name=each.name, status=status.name, size=size)
        return reply

    async def _stored(self, data: bytes) -> Data:
        if len(data) <= self._parts.settings.inline_limit_bytes:
            return data
        async with await self._parts.objects.writer() as writer:
            await writer.write(data)
        return writer.stored

    # The stubs know generators only; writing to the context is the other documented way.
    async def Upload(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]
        """Receive the data of a result, of any size; tell how far it is safe, and in the end that it is complete."""
        first = await context.read()
        if not isinstance(first, results_pb2.UploadRequest) or first.WhichOneof("part") != "begin":
            raise InvalidRequestError("begin", "is missing; the first message of an upload names the result")
        begin = first.begin
        expected = _expected(begin)
        session = await self._session_of(begin.session_id, begin.key)
        check_uploadable(begin.key, await self._store.find(session, begin.key))
        upload = await self._upload(begin, session)
        reply = results_pb2.UploadReply(upload_id=str(upload.upload_id), offset=upload.offset)
        await context.write(reply)

        async def admit(size: int) -> None:
            await self._parts.quotas.admit(session.session_no, 0, size)

        receiving = Receiving(
            self._parts.database,
            self._parts.objects,
            upload,
            expected,
            inline_limit_bytes=self._parts.settings.inline_limit_bytes,
            admit=admit,
        )
        async with receiving:
            complete = False
            while not complete and isinstance(message := await context.read(), results_pb2.UploadRequest):
                if (part := message.WhichOneof("part")) not in ("chunk", "complete"):
                    raise InvalidRequestError("part", "is neither chunk nor complete, which alone follow after begin")
                complete = part == "complete"
                if not complete and await receiving.write(message.chunk):
                    reply.offset = upload.offset
                    await context.write(reply)
            if not complete:
                await _end_of_stream(expected)
            data = await receiving.finish()
            try:
                changes = await self._store.complete(session, begin.key, data)
            except (ConflictError, NotFoundError):
                await receiving.drop(data)
                raise
            self._parts.notices.publish(changes)
            if not changes.completed:  # the result had the same data before
                await receiving.drop(data)
            await receiving.end()
        reply.offset, reply.complete = size_of(data), True
        reply.sha256 = digest_of(data)
        await context.write(reply)

    async def QueryUpload(self, request: results_pb2.UploadId, context: Context) -> results_pb2.UploadReply:
        """Tell how far an upload has come."""
        upload = await find_upload(self._parts.database, _upload_id("upload_id", request.upload_id))
        return results_pb2.UploadReply(upload_id=str(upload.upload_id), offset=upload.offset)

    async def _upload(self, begin: results_pb2.UploadBegin, session: KnownSession) -> UnderWay:
        """Return the upload that a stream begins, or that it continues."""
        if not begin.upload_id:
            if begin.offset:
                raise InvalidRequestError("begin.offset", "is set, but begin.upload_id is not; name the upload")
            return UnderWay(uuid4(), session.session_no, begin.key)
        upload = UnderWay(_upload_id("begin.upload_id", begin.upload_id), session.session_no, begin.key)
        with suppress(NotFoundError):
            upload = await find_upload(self._parts.database, upload.upload_id)
        if (upload.session_no, upload.key) != (session.session_no, begin.key):
            raise ConflictError(f"upload {begin.upload_id!r} is one of another result; begin one without upload_id")
        check_offset(upload, begin.offset)
        return upload

    async def _session_of(self, session_id: str, key: str) -> KnownSession:
        """Return the session with this id; if that is empty, the one to which the key leads."""
        check_identifier("key", key)
        if session_id:
            check_identifier("session_id", session_id)
            return await self._parts.sessions.find(session_id)
        number = session_of_result(key)
        if number is None:
            raise InvalidRequestError(
                "session_id", f"is empty, and key {key!r} was not made by Create; name the session"
            )
        try:
            return await self._parts.sessions.by_number(number)
        except NotFoundError:
            raise unknown(key) from None

    async def Import(
        self, request: results_pb2.ImportResultsRequest, context: Context
    ) -> results_pb2.ImportResultsReply:
        """Complete results with objects that lie in the object store already, all or none."""
        check_identifier("session_id", request.session_id)
        reply = results_pb2.ImportResultsReply()
        if len(request.entries) > _MOST_IMPORTED:
            raise InvalidRequestError(
                "entries", f"are {len(request.entries)}, more than {_MOST_IMPORTED}; import in several calls"
            )
        objects: dict[str, StoredObject] = {}
        for index, entry in enumerate(request.entries):
            check_identifier(f"entries[{index}].key", entry.key)
            if not _IMPORTED.fullmatch(entry.object) or len(entry.object) > _LONGEST_NAME_BYTES:
                raise InvalidRequestError(
                    f"entries[{index}].object",
                    f"{entry.object[:100]!r} may not be imported; put it below import/, under a name of letters, digits and"
                    " . _ + = @ ~ - and name it from import/ on",
                )
        for field in ("key", "object"):
            named = [getattr(entry, field) for entry in request.entries]
            if doubled := sorted({name for name in named if named.count(name) > 1}):
                raise InvalidRequestError(f"entries.{field}", f"{doubled[0]!r} stands twice in this request")
        session = await self._parts.sessions.find(request.session_id)
        for entry in request.entries:
            check_uploadable(entry.key, await self._store.find(session, entry.key))
            objects[entry.key] = await self._parts.objects.measure(entry.object)
        if objects:
            await self._parts.quotas.admit(session.session_no, 0, sum(stored.size for stored in objects.values()))
            changes = await import_objects(self._parts.database, self._numbers, session, objects)
            self._parts.notices.publish(changes)
        for key, stored in objects.items():
            reply.entries.add(key=key, size=stored.size, sha256=stored.sha256)
        return reply

    async def DeleteData(self, request: results_pb2.DeleteDataRequest, context: Context) -> results_pb2.DeleteDataReply:
        """Delete the data of completed results; tasks that need it fail."""
        check_identifier("session_id", request.session_id)
        session = await self._parts.sessions.find(request.session_id)
        reply = results_pb2.DeleteDataReply()
        keys = [key for key in request.keys if "\0" not in key]
        async for deleted, changes in delete_data(self._parts.database, session, keys):
            self._parts.notices.publish(changes)
            reply.deleted_keys.extend(deleted)
        return reply


async def _end_of_stream(expected: Expected) -> None:
    """Check that the end of a stream without ``complete`` can be the end of its data.

    Raises:
        InvalidRequestError: nothing tells whether all of it has come.
    """
    # gRPC ends the stream of a client that has gone away like that of one that has half-closed; the cancellation of
    # this call follows within a moment as a rule, but not always.
    await asyncio.sleep(_CANCELLATION_FOLLOWS_S)
    if expected == Expected(None, None):
        raise InvalidRequestError(
            "complete",
            "is missing, and begin says neither size nor sha256: the stream may have broken; nothing was stored,"
            " continue the upload, and end it with complete",
        )


def _check_name(field: str, name: str) -> None:
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME_BYTES:
        raise InvalidRequestError(field, f"{name[:40]!r}... is longer than {_LONGEST_NAME_BYTES} bytes of UTF-8")
    if "\0" in name or not is_encodable(name):
        raise InvalidRequestError(field, f"{name!r} contains a character that no name may (NUL, a lone surrogate)")


def _expected(begin: results_pb2.UploadBegin) -> Expected:
    size = begin.size if begin.HasField("size") else None
    if size is not None and size < 0:
        raise InvalidRequestError("begin.size", f"is {size}; it counts bytes, or is left unset")
    if begin.offset < 0:
        raise InvalidRequestError("begin.offset", f"is {begin.offset}; it counts bytes")
    if begin.sha256 and len(begin.sha256) != _SHA256_BYTES:
        raise InvalidRequestError("begin.sha256", f"has {len(begin.sha256)} bytes; a SHA-256 has {_SHA256_BYTES}")
    return Expected(size, begin.sha256 or None)


def _upload_id(field: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequestError(field, f"{text[:60]!r} is not a UUID") from None
