"""The Results service: finished results, pushed in batches; large ones read in long pieces."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from ripieno.control.failures import task_error
from ripieno.control.watcher import KeysWatch, Watcher
from ripieno.domain.data import StoredObject
from ripieno.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.statuses import ResultStatus
from ripieno.store.database import Database
from ripieno.store.lookup import FinishedKey, fetch_results, find_result
from ripieno.store.objects import ObjectStore
from ripieno.store.sessions import Sessions
from ripieno.wire.outcomes import directory_to_wire, stored_to_wire
from ripieno.wire.protos.armonik_v2 import result_status_pb2
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc
from ripieno.wire.statuses import RESULT_TO_WIRE

#: Results that are looked up at once: inline ones come along, 2 MiB in all unless configured otherwise.
_READ_AT_ONCE = 32

#: A message is cut after about so much data.
_LARGEST_MESSAGE_BYTES = 1024 * 1024

Context = grpc.aio.ServicerContext[Any, Any]


class Results(results_pb2_grpc.ResultsServicer):
    """Serves finished results."""

    def __init__(self, database: Database, sessions: Sessions, objects: ObjectStore, watcher: Watcher) -> None:
        self._database = database
        self._sessions = sessions
        self._objects = objects
        self._watcher = watcher

    # The stubs know generators only; writing to the context is the other documented way.
    async def Follow(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Push each asked key once it is finished, in batches that grow with load."""
        first = await context.read()
        if not isinstance(first, results_pb2.FollowRequest):
            raise InvalidRequestError("session_id", "is missing: the stream ended before its first message")
        check_identifier("session_id", first.session_id)
        session = await self._sessions.find(first.session_id)
        with self._watcher.keys(session.session_no) as watch:
            follower = _Follower(watch)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(follower.read(first, context))
                    while finished := await follower.take():
                        await self._push(finished, session.session_no, context, bare=first.without_data)
            finally:
                watch.remove(follower.deliver)

    async def _push(self, finished: Sequence[FinishedKey], session_no: int, context: Context, *, bare: bool) -> None:
        reply = results_pb2.FollowReply()
        size = 0
        for each in finished:
            message = reply.finished.add(key=each.key)
            if each.status is ResultStatus.NAMED:
                message.status = result_status_pb2.RESULT_STATUS_UNSPECIFIED
                continue
            message.status = RESULT_TO_WIRE[each.status]
            if each.status is ResultStatus.ABORTED:
                message.error.CopyFrom(await task_error(self._database, session_no, each.key))
            elif bare or each.data is None:
                message.size = each.size
                if each.stored is not None and self._objects.proven is not None:
                    message.object.CopyFrom(stored_to_wire(each.stored))
                    reply.objects.CopyFrom(directory_to_wire(self._objects.proven))
            else:
                message.data = each.data
                size += len(each.data)
            if size > _LARGEST_MESSAGE_BYTES:
                await context.write(reply)
                reply, size = results_pb2.FollowReply(), 0
        if reply.finished:
            await context.write(reply)

    # The stubs know generators only; writing to the context is the other documented way.
    async def Read(self, request: results_pb2.ReadRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Bytes of final results, in messages of a MiB, one result after the other."""
        check_identifier("session_id", request.session_id)
        session = await self._sessions.find(request.session_id)
        offset = request.offset
        if offset < 0:
            raise InvalidRequestError("offset", f"is {offset}; it counts bytes to leave out")
        for key in request.keys:
            check_identifier("keys", key)
        for start in range(0, len(request.keys), _READ_AT_ONCE):
            keys = request.keys[start : start + _READ_AT_ONCE]
            found = await fetch_results(self._database, [(session.session_no, key) for key in keys])
            for key, data in zip(keys, found, strict=True):
                if isinstance(data, StoredObject):
                    await self._read(data, offset, context)
                elif isinstance(data, bytes):
                    await context.write(results_pb2.ReadReply(data=data[offset:], complete=True))
                else:
                    await self._explain(session.session_no, key, data, context)
                offset = 0

    async def _read(self, stored: StoredObject, offset: int, context: Context) -> None:
        read = min(offset, stored.size)
        if read == stored.size:
            await context.write(results_pb2.ReadReply(complete=True))
        async for piece in self._objects.read(stored, read):
            read += len(piece)
            await context.write(results_pb2.ReadReply(data=piece, complete=read == stored.size))

    async def _explain(self, session_no: int, key: str, why: str, context: Context) -> None:
        """Say why there are no bytes.

        Raises:
            NotFoundError: nobody has announced it.
            ConflictError: it is not final.
        """
        result = await find_result(self._database, session_no, key)
        if result is None:
            raise NotFoundError(why)
        if result.status is not ResultStatus.ABORTED:
            raise ConflictError(why)
        await context.write(results_pb2.ReadReply(error=await task_error(self._database, session_no, key)))


class _Follower:
    """One stream: keys asked for, and results that wait to be pushed."""

    def __init__(self, watch: KeysWatch) -> None:
        self._watch = watch
        self._asked: set[str] = set()
        self._finished: list[FinishedKey] = []
        self._complete = False
        self._news = asyncio.Event()

    def deliver(self, finished: Sequence[FinishedKey]) -> None:
        """The watch has these for us."""
        self._finished += [each for each in finished if each.key in self._asked]
        self._asked.difference_update(each.key for each in finished)
        self._news.set()

    async def read(self, first: results_pb2.FollowRequest, context: Context) -> None:
        """Take in the keys that the client names, until it half-closes."""
        message: object = first
        while isinstance(message, results_pb2.FollowRequest):
            fresh = [key for key in dict.fromkeys(message.keys) if key not in self._asked]
            unknowable = [key for key in fresh if "\0" in key]
            fresh = [key for key in fresh if "\0" not in key]
            self._asked.update(fresh)
            self._finished += [FinishedKey(key, ResultStatus.NAMED, 0, None) for key in unknowable]
            self._watch.add(fresh, self.deliver)
            self._news.set()
            message = await context.read()
        self._complete = True
        self._news.set()

    async def take(self) -> list[FinishedKey]:
        """Wait for results and take all that are there; empty when there will be no more."""
        while not self._finished:
            if self._complete and not self._asked:
                return []
            self._news.clear()
            await self._news.wait()
        finished, self._finished = self._finished, []
        return finished
