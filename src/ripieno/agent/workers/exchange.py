"""Carries out the effects of conversations: answers, data for workers, uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import grpc.aio

from ripieno.agent.attempts.attempt import Attempt, Verdict
from ripieno.agent.attempts.opening import read_chunks
from ripieno.agent.conversation.conversation import Conversation
from ripieno.agent.conversation.effects import (
    Answer,
    DataRequested,
    Effect,
    ProcessRequest,
    UploadContinued,
    UploadFinished,
    UploadStarted,
    data_error,
    data_reply,
)
from ripieno.agent.data.inputs import DataUnavailableError, Inputs
from ripieno.agent.data.uploads import Upload, UploadError
from ripieno.agent.scheduling.dispatcher import Dispatcher
from ripieno.agent.scheduling.faults import contained
from ripieno.agent.uplink.link import Link
from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.domain.outcomes import Completed, Failed
from ripieno.wire.protos.armonik_v2 import objects_pb2

_DataReply = ProcessRequest.DataReply
_Chunk = objects_pb2.DataChunk


class Sender(Protocol):
    """Sends messages to the worker of a running attempt; both lanes implement it."""

    async def send(self, attempt: Attempt, requests: Sequence[ProcessRequest]) -> None:
        """Send messages in order, waiting while the worker is behind.

        Raises:
            grpc.RpcError, asyncio.InvalidStateError: if the stream to the worker is gone.
        """


class Exchange:
    """Carries out effects for all lanes of the agent. Belongs to the event loop's thread."""

    @property
    def scratch(self) -> ObjectDirectory:
        """The directory of this agent's large data, with a proof by which workers recognise it."""
        return self._inputs.scratch

    def __init__(self, dispatcher: Dispatcher, link: Link, inputs: Inputs) -> None:
        self._dispatcher = dispatcher
        self._link = link
        self._inputs = inputs
        self._uploads: dict[Attempt, dict[int, Upload]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Own the tasks of answers and uploads. Runs until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await asyncio.get_running_loop().create_future()

    async def carry_out(self, sender: Sender, attempt: Attempt, effects: Sequence[Effect]) -> Completed | Failed | None:
        """Carry out the effects of a conversation in order, waiting while an upload is behind.

        Returns:
            How the attempt ended, if the last effect says so.

        Raises:
            grpc.RpcError, asyncio.InvalidStateError: if the stream to the worker is gone.
        """
        for effect in effects:
            if isinstance(effect, UploadContinued):
                await self._put(attempt, effect.upload, effect.data)
            elif isinstance(effect, Completed | Failed):
                return effect
            elif isinstance(effect, Answer):
                await sender.send(attempt, [effect.request])
            elif isinstance(effect, DataRequested):
                assert self._tasks is not None and attempt.conversation is not None
                answer = self._answer(sender, attempt, attempt.conversation, effect)
                self._tasks.create_task(contained(self._dispatcher, attempt, answer))
            elif isinstance(effect, UploadStarted):
                self._start_upload(attempt, effect.upload)
            elif isinstance(effect, UploadFinished):
                await self._put(attempt, effect.upload, None)
        return None

    def abort(self, attempt: Attempt) -> None:
        """Cancel the uploads of an attempt, whose data is no longer wanted."""
        for upload in self._uploads.pop(attempt, {}).values():
            upload.abort()

    # ------------------------------------------------------------------ uploads

    def _start_upload(self, attempt: Attempt, number: int) -> None:
        assert self._tasks is not None
        if attempt.verdict is not None or attempt.over:
            return
        attempt.uploading = True
        uploads = self._uploads.setdefault(attempt, {})
        uploads[number] = Upload(
            self._link, self._tasks, partial(self._stored, attempt, number), partial(self._failed, attempt)
        )

    async def _put(self, attempt: Attempt, number: int, data: bytes | None) -> None:
        upload = self._uploads.get(attempt, {}).get(number)
        if upload is not None:
            await upload.put(data)

    def _stored(self, attempt: Attempt, number: int, stored: StoredObject) -> None:
        uploads = self._uploads.get(attempt)
        if uploads is None or attempt.conversation is None:
            return
        uploads.pop(number, None)
        for effect in attempt.conversation.stored(number, stored):
            if isinstance(effect, Completed | Failed):
                self._dispatcher.finish(attempt, effect)
                self._dispatcher.pump()

    def _failed(self, attempt: Attempt, error: UploadError) -> None:
        verdict = Verdict.FAILED if error.attempt_at_fault else Verdict.RELEASED
        self._dispatcher.condemn(attempt, verdict, str(error))
        self._dispatcher.pump()

    # ------------------------------------------------------------------ answers

    async def _answer(
        self, sender: Sender, attempt: Attempt, conversation: Conversation, request: DataRequested
    ) -> None:
        try:
            await self._answer_counted(sender, attempt, request)
        finally:
            # Counted until here, because an answer takes memory while it waits for a worker that does not read.
            conversation.data_delivered()

    async def _answer_counted(self, sender: Sender, attempt: Attempt, request: DataRequested) -> None:
        try:
            datum, done = await self._inputs.read(attempt.session_no, request.kind, request.key)
        except DataUnavailableError as error:
            detail = str(error)
            await self._send(
                sender, attempt, request, [data_error(request.kind, request.request_id, request.key, detail)], last=True
            )
            return
        try:
            first = True
            async for chunk in read_chunks(datum, self._link.limits.data_chunk_max_size):
                reply = _DataReply(reply_id=request.request_id)
                if first:
                    reply.init.key = request.key
                    reply.init.data.data = chunk
                    first = False
                else:
                    reply.data.data = chunk
                if not await self._send(sender, attempt, request, [data_reply(request.kind, reply)]):
                    return
            end = _DataReply(reply_id=request.request_id, data=_Chunk(data_complete=True))
            await self._send(sender, attempt, request, [data_reply(request.kind, end)], last=True)
        finally:
            done()

    async def _send(
        self,
        sender: Sender,
        attempt: Attempt,
        request: DataRequested,
        messages: Sequence[ProcessRequest],
        *,
        last: bool = False,
    ) -> bool:
        """Send part of an answer. Returns False if the attempt ended, or the worker is done or gone."""
        conversation = attempt.conversation
        if attempt.over or attempt.verdict is not None or conversation is None:
            return False
        if not conversation.waits_for_data(request.request_id):
            return False
        if last:
            # The id is freed before sending, because the worker may use it again as soon as it has read the message.
            conversation.data_answered(request.request_id)
        try:
            await sender.send(attempt, messages)
        except (grpc.RpcError, asyncio.InvalidStateError):
            return False  # the worker is gone, which its lane notices and handles
        return True
