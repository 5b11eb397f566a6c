"""Streaming gRPC calls over a connection of the agent's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc

from ripieno.agent.transport.frames import CANCEL, REFUSED_STREAM
from ripieno.agent.transport.grpc_framing import (
    BrokenMessageError,
    MessageCutter,
    Status,
    prefix,
    request_headers,
    status_of_answer,
    status_of_reset,
    status_of_trailers,
)
from ripieno.agent.transport.header_rules import Headers
from ripieno.agent.transport.http2 import Connection


class CallEndedError(grpc.RpcError):
    """A write to a call that has ended. The text is the call's status."""


class Call:
    """One call of a method with streams in both directions. Belongs to the event loop's thread.

    Attributes:
        code, details: The call's gRPC status; ``code`` is None until the call has ended.
        refused: Whether the peer never processed the call: making it again is safe.
    """

    def __init__(self, connection: Connection, method: bytes) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.refused = False
        self._cutter = MessageCutter()
        self._messages: list[bytes] = []
        self._unconsumed = 0
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._stream = connection.open(*request_headers(method), self)

    @property
    def status(self) -> str:
        """The call's status code and details as text."""
        return f"{self.code.name if self.code else 'no status'}: {self.details or 'no detail'}"

    async def write(self, messages: Sequence[bytes]) -> None:
        """Send messages, waiting while flow control gives no room. Only one task may write at a time.

        Raises:
            CallEndedError: the call has ended.
        """
        left = memoryview(b"".join([part for message in messages for part in (prefix(len(message)), message)]))
        stream = self._stream
        while left:
            if self.code is not None:
                raise CallEndedError(self.status)
            room = stream.room
            if room > 0:
                stream.write(left[:room])
                left = left[room:]
            else:
                stream.flush()
                if stream.room <= 0:  # sending may end the call, or make room
                    await self._until_room()
        stream.flush()

    async def _until_room(self) -> None:
        if self.code is None:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def half_close(self) -> None:
        """Tell the peer that no more messages follow. Replies may still be read."""
        if self.code is None:
            self._stream.write(b"", end=True)
            self._stream.flush()

    async def read(self) -> list[bytes]:
        """Return the messages received since the last read: at least one, or none at the end of the call."""
        while not self._messages and self.code is None:
            self._consume()  # the part of a message that has arrived is held anyway, so its room is given back
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        self._consume()
        messages, self._messages = self._messages, []
        return messages

    async def ended(self) -> None:
        """Wait until the call has ended. Another task has to read meanwhile."""
        if self.code is None:
            self._over = asyncio.get_running_loop().create_future()
            await self._over

    def cancel(self) -> None:
        """End the call with status CANCELLED and reset its stream. No-op once the call has ended."""
        if self.code is None:
            self._give_up(Status(grpc.StatusCode.CANCELLED, "cancelled by the agent"))

    # ------------------------------------------------------------------ streams.Reader

    def headers_received(self, status: int, headers: Headers, *, end: bool) -> None:
        """Read the call's status from response headers or trailers, if they carry one."""
        fields = dict(headers)
        ended = status_of_trailers(fields)
        if ended is None and status:
            ended = status_of_answer(status, fields)
        if ended is None:
            return
        if ended.code is grpc.StatusCode.OK and self._cutter.within:
            ended = Status(grpc.StatusCode.INTERNAL, "the call ended within a message")
        if end:
            self._end(ended)
        else:
            self._give_up(ended)

    def data_received(self, data: bytes) -> None:
        """Cut received bytes into messages and wake the reader."""
        self._unconsumed += len(data)
        try:
            self._messages += self._cutter.feed(data)
        except BrokenMessageError as error:
            self._give_up(error.status)
            return
        _wake(self._news)

    def stream_ended(self) -> None:
        """End the call as UNKNOWN: the peer ended the stream without a gRPC status."""
        self._end(Status(grpc.StatusCode.UNKNOWN, "the call ended without a status (HTTP status 200)"))

    def stream_reset(self, error_code: int) -> None:
        """End the call: the peer reset its stream."""
        self.refused = self.refused or (self.code is None and error_code == REFUSED_STREAM)
        self._end(status_of_reset(error_code))

    def stream_broken(self, reason: str) -> None:
        """End the call as INTERNAL: the peer broke a rule of HTTP/2 on its stream."""
        self._end(Status(grpc.StatusCode.INTERNAL, reason))

    def connection_lost(self, reason: str, *, refused: bool) -> None:
        """End the call as UNAVAILABLE: the connection was lost, or the peer is closing it."""
        self.refused = self.refused or (self.code is None and refused)
        self._end(Status(grpc.StatusCode.UNAVAILABLE, reason))

    def may_write(self) -> None:
        """Wake the writer: there may be room to send."""
        _wake(self._room)

    # ------------------------------------------------------------------ inside

    def _consume(self) -> None:
        if self._unconsumed:
            self._stream.consumed(self._unconsumed)
            self._unconsumed = 0

    def _give_up(self, status: Status) -> None:
        self._end(status)
        self._stream.reset(CANCEL)

    def _end(self, status: Status) -> None:
        if self.code is None:  # a call keeps the first status that it was given
            self.code, self.details = status
        _wake(self._news)
        _wake(self._room)
        _wake(self._over)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
