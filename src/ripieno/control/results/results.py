"""The Results service: pushes finished results in batches, sends large ones in long pieces, and lists task ids."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack, aclosing, closing
from typing import Any, NoReturn

import grpc
import grpc.aio

from ripieno.config import ControlSettings
from ripieno.control.calls.limits import ControlLimits, Meters, client_of
from ripieno.control.calls.streams import both_ways
from ripieno.control.results.client_results import ClientResultsCalls, ClientResultsParts
from ripieno.control.results.downloads import pieces
from ripieno.control.results.failures import task_error, task_errors
from ripieno.control.results.following import LARGEST_MESSAGE_BYTES, Follower
from ripieno.control.results.room import REPLICA_BYTES, STREAM_BYTES, Room
from ripieno.control.waiting.watcher import Watcher
from ripieno.domain.data import StoredObject
from ripieno.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.statuses import ResultStatus
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.store.reading.listing import page_of_tasks
from ripieno.store.reading.lookup import FinishedKey, fetch_results, find_result, finished_results
from ripieno.store.sessions.sessions import Sessions
from ripieno.wire.outcomes import directory_to_wire, stored_to_wire
from ripieno.wire.protos.armonik_v2 import result_status_pb2
from ripieno.wire.protos.v1 import results_pb2
from ripieno.wire.statuses import RESULT_TO_WIRE

#: The most results that ``Read`` looks up at once, and the most bytes of their data.
_READ_AT_ONCE = 64
_READ_BYTES = 1024 * 1024

#: The most aborted results whose reasons are looked up at once.
_REASONS_AT_ONCE = 64

#: The most ids of tasks in one message of ``ListTaskIds``: 1 MiB at the most.
_LISTED_AT_ONCE = 1_000

Context = grpc.aio.ServicerContext[Any, Any]
#: Function that raises an error if the database is another incarnation than the one read from before.
Check = Callable[[], None]


class Results(ClientResultsCalls):
    """Implements the Results service for clients."""

    def __init__(
        self,
        settings: ControlSettings,
        database: Database,
        sessions: Sessions,
        objects: ObjectStore,
        watcher: Watcher,
        downloads: Room,
        waited: Meters,
        client_results: ClientResultsParts,
    ) -> None:
        super().__init__(client_results)
        self._waited = waited
        self._keys_per_follow = ControlLimits(settings.limits).keys_per_follow
        self._inline_limit = settings.inline_limit_bytes
        self._following = Room(REPLICA_BYTES)
        self._downloads = downloads
        self._database = database
        self._sessions = sessions
        self._objects = objects
        self._watcher = watcher

    # The stubs know generators only; writing to the context is the other documented way.
    async def Follow(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Push each result that the client asks for once it is finished, in batches that grow with load."""
        first = await context.read()
        if not isinstance(first, results_pb2.FollowRequest):
            raise InvalidRequestError("session_id", "is missing: the stream ended before its first message")
        check_identifier("session_id", first.session_id)
        with self._database.one_incarnation() as unchanged:
            session_no = (await self._sessions.find(first.session_id)).session_no
            await self._follow(first, session_no, unchanged, context)

    async def _follow(
        self, first: results_pb2.FollowRequest, session_no: int, unchanged: Check, context: Context
    ) -> None:
        async def read(keys: Sequence[str], most_bytes: int) -> Sequence[FinishedKey]:
            found = await finished_results(self._database, session_no, keys, self._inline_limit, most_bytes)
            unchanged()
            return found

        client = client_of(context.peer())
        leaving: asyncio.Future[NoReturn] = self._watcher.promise()
        with ExitStack() as held:
            watch = held.enter_context(self._watcher.keys(session_no))
            follower = Follower(watch, read, self._following, bare=first.without_data)
            held.callback(follower.close)
            held.enter_context(self._waited.counting(client, lambda: follower.unanswered))

            def check(more: int) -> None:
                self._keys_per_follow.check(follower.unanswered + more)
                self._waited.check(client, more)

            leaving.add_done_callback(lambda _: follower.stop())
            try:
                await both_ways(
                    _take_in(follower, first, context, check),
                    self._push_all(follower, session_no, unchanged, context),
                    follower.stop,
                )
                if leaving.done():
                    leaving.result()
            finally:
                leaving.cancel()

    async def _push_all(self, follower: Follower, session_no: int, unchanged: Check, context: Context) -> None:
        while finished := await follower.take():
            await self._push(finished, session_no, unchanged, context)
            follower.written()

    async def _push(self, finished: list[FinishedKey], session_no: int, unchanged: Check, context: Context) -> None:
        """Write results in one message, and aborted ones, whose reasons may be long, in as many more as they need."""
        reply = results_pb2.FollowReply()
        for each in finished:
            if not each.status.unobtainable:
                self._put(reply, each)
        without = {each.key: each.status for each in finished if each.status.unobtainable}
        aborted = list(without)
        finished.clear()  # the message holds their data now; the client may take long to read it
        if reply.finished:
            await context.write(reply)
        for start in range(0, len(aborted), _REASONS_AT_ONCE):
            keys = aborted[start : start + _REASONS_AT_ONCE]
            reply, size = results_pb2.FollowReply(), 0
            errors = await task_errors(self._database, session_no, keys)
            unchanged()
            for key, error in zip(keys, errors, strict=True):
                reply.finished.add(key=key, status=RESULT_TO_WIRE[without[key]], error=error)
                size += error.ByteSize()
                if size > LARGEST_MESSAGE_BYTES:
                    await context.write(reply)
                    reply, size = results_pb2.FollowReply(), 0
            if reply.finished:
                await context.write(reply)

    def _put(self, reply: results_pb2.FollowReply, each: FinishedKey) -> None:
        message = reply.finished.add(key=each.key)
        if each.status is ResultStatus.NAMED:
            message.status = result_status_pb2.RESULT_STATUS_UNSPECIFIED
            return
        message.status = RESULT_TO_WIRE[each.status]
        if each.data is not None:
            message.data = each.data
            return
        message.size = each.size
        if each.stored is not None and self._objects.proven is not None:
            message.object.CopyFrom(stored_to_wire(each.stored))
            reply.objects.CopyFrom(directory_to_wire(self._objects.proven))

    # The stubs know generators only; writing to the context is the other documented way.
    async def Read(self, request: results_pb2.ReadRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Send the data of final results, one after the other, in messages of up to 1 MiB; of aborted ones the reason."""
        check_identifier("session_id", request.session_id)
        offset = request.offset
        if offset < 0:
            raise InvalidRequestError("offset", f"is {offset}; it counts bytes to leave out")
        for key in request.keys:
            check_identifier("keys", key)
        with self._database.one_incarnation() as unchanged, closing(Room(STREAM_BYTES, within=self._downloads)) as room:
            session = await self._sessions.find(request.session_id)
            keys = [(session.session_no, key) for key in request.keys]
            while keys:
                held = room.take_up_to(_READ_BYTES, least=self._inline_limit)
                found = await fetch_results(self._database, keys[:_READ_AT_ONCE], held)
                unchanged()
                for (_, key), data in zip(keys, found, strict=False):
                    if isinstance(data, StoredObject):
                        await self._read(data, offset, context)
                    elif isinstance(data, bytes):
                        await context.write(results_pb2.ReadReply(data=data[offset:], complete=True))
                    else:
                        await self._explain(session.session_no, key, data, unchanged, context)
                    offset = 0
                keys = keys[len(found) :]
                room.give_back(held)

    async def _read(self, stored: StoredObject, offset: int, context: Context) -> None:
        read = min(offset, stored.size)
        if read == stored.size:
            await context.write(results_pb2.ReadReply(complete=True))
        async with aclosing(pieces(self._objects, stored, self._downloads, read)) as read_on:
            async for piece in read_on:
                read += len(piece)
                await context.write(results_pb2.ReadReply(data=piece, complete=read == stored.size))

    async def _explain(self, session_no: int, key: str, why: str, unchanged: Check, context: Context) -> None:
        """Send the reason why an aborted or deleted result has no data.

        Raises:
            NotFoundError: if nobody has announced the result.
            ConflictError: if the result is not final.
        """
        result = await find_result(self._database, session_no, key)
        if result is None:
            raise NotFoundError(why)
        if not result.status.unobtainable:
            raise ConflictError(why)
        error = await task_error(self._database, session_no, key)
        unchanged()
        await context.write(results_pb2.ReadReply(error=error))

    # The stubs know generators only; writing to the context is the other documented way.
    async def ListTaskIds(  # type: ignore[override]  # noqa: N802
        self, request: results_pb2.ListTaskIdsRequest, context: Context
    ) -> None:
        """Send the ids of all tasks of a session, a page at a time; a page is read when the one before is written."""
        check_identifier("session_id", request.session_id)
        with self._database.one_incarnation() as unchanged:
            session_no = (await self._sessions.find(request.session_id)).session_no
            last_no: int | None = 0
            while last_no is not None:
                ids, last_no = await page_of_tasks(self._database, [session_no], None, last_no, _LISTED_AT_ONCE)
                unchanged()
                reply = results_pb2.ListTaskIdsReply(task_ids=ids)
                del ids  # the message holds them; the client may take long to read it
                if reply.task_ids:
                    await context.write(reply)


async def _take_in(
    follower: Follower, first: results_pb2.FollowRequest, context: Context, check: Callable[[int], None]
) -> None:
    """Read the keys that a client asks for and follow them, until the client half-closes.

    Args:
        check: Called with a number of keys; raises an error if the client may not wait for as many more.
    """
    message: object = first
    while isinstance(message, results_pb2.FollowRequest):
        check(len(message.keys))
        follower.ask(message.keys)
        message = await context.read()
    follower.complete()
