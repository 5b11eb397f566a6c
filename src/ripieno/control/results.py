"""The Results service: finished results, pushed in batches."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from ripieno.control.failures import task_error
from ripieno.control.watcher import KeysWatch, Watcher
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.statuses import ResultStatus
from ripieno.store.database import Database
from ripieno.store.lookup import FinishedKey
from ripieno.store.sessions import Sessions
from ripieno.wire.protos.armonik_v2 import result_status_pb2
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc
from ripieno.wire.statuses import RESULT_TO_WIRE

#: A message is cut after about so much data.
_LARGEST_MESSAGE_BYTES = 1024 * 1024

Context = grpc.aio.ServicerContext[Any, Any]


class Results(results_pb2_grpc.ResultsServicer):
    """Serves finished results."""

    def __init__(self, database: Database, sessions: Sessions, watcher: Watcher) -> None:
        self._database = database
        self._sessions = sessions
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
            else:
                message.data = each.data
                size += len(each.data)
            if size > _LARGEST_MESSAGE_BYTES:
                await context.write(reply)
                reply, size = results_pb2.FollowReply(), 0
        if reply.finished:
            await context.write(reply)


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
