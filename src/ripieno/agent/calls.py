"""Streaming calls over a connection of our own: gRPC's part of the matter.

A message is its length behind a byte that says whether it is compressed, which we ask not to be; a
call ends with trailers that carry its status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from urllib.parse import unquote

import grpc
from hpack import Encoder

from ripieno.agent.http2 import CANCEL, REFUSED_STREAM, Connection

_PREFIX_BYTES = 5
#: How gRPC translates what HTTP/2 says of a stream that was given up; all else is INTERNAL.
_RESETS = {
    REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    CANCEL: grpc.StatusCode.CANCELLED,
    0xB: grpc.StatusCode.RESOURCE_EXHAUSTED,  # enhance your calm
    0xC: grpc.StatusCode.PERMISSION_DENIED,  # inadequate security
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@cache
def _header_block(path: bytes) -> bytes:
    """The request's headers, the same for all calls of a method: none of them enters the dynamic table."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        # Over a unix socket the path would be the authority, which some servers refuse.
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity"),
        (b"user-agent", b"ripieno-agent"),
    ]
    # Sensitive ones are never indexed, by whoever reads them either.
    return Encoder().encode([(name, value, True) for name, value in headers], huffman=False)


class CallEndedError(grpc.RpcError):
    """Nothing can be written any more; the text is the call's status."""


class Call:
    """One call of a method with streams in both directions. Belongs to the event loop's thread.

    Attributes:
        code, details: Its status, once it has ended.
        refused: The worker never looked at it.
    """

    def __init__(self, connection: Connection, method: bytes) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.refused = False
        self._stream = connection.open(_header_block(method), self)
        self._messages: list[bytes] = []
        self._rest = b""
        self._unconsumed = 0
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._http_status = b"200"

    @property
    def status(self) -> str:
        """How it ended, in words."""
        return f"{self.code.name if self.code else 'no status'}: {self.details or 'no detail'}"

    async def write(self, messages: Sequence[bytes]) -> None:
        """Send messages; waits while the worker is behind. One writer at a time.

        Raises:
            CallEndedError: the call has ended.
        """
        framed = [part for message in messages for part in (b"\0", len(message).to_bytes(4), message)]
        left = memoryview(b"".join(framed))
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
                self._room = asyncio.get_running_loop().create_future()
                await self._room
        stream.flush()

    def half_close(self) -> None:
        """Say no more."""
        if self.code is None:
            self._stream.write(b"", end=True)
            self._stream.flush()

    async def read(self) -> list[bytes]:
        """The messages that have come since the last time, at least one; none at the end of the call."""
        while not self._messages and self.code is None:
            self._consume()  # what there is of a message has to be held anyway
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        self._consume()
        messages, self._messages = self._messages, []
        return messages

    async def ended(self) -> None:
        """Wait for the end of the call, while another task reads."""
        if self.code is None:
            self._over = asyncio.get_running_loop().create_future()
            await self._over

    def cancel(self) -> None:
        """Give it up."""
        if self.code is None:
            self._stream.reset(CANCEL)
            self._end(grpc.StatusCode.CANCELLED, "cancelled by the agent")

    # ------------------------------------------------------------------ http2.Reader

    def headers_received(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Of the answer, or its trailers with the status."""
        fields = dict(headers)
        self._http_status = fields.get(b":status", self._http_status)
        status = fields.get(b"grpc-status")
        if status is not None:
            code = _CODES.get(int(status), grpc.StatusCode.UNKNOWN) if status.isdigit() else grpc.StatusCode.UNKNOWN
            self._end(code, unquote(fields.get(b"grpc-message", b"").decode("ascii", "replace")))

    def data_received(self, data: bytes) -> None:
        """Cut it into messages."""
        self._unconsumed += len(data)
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= _PREFIX_BYTES:
            begin = at + _PREFIX_BYTES
            size = int.from_bytes(data[at + 1 : begin])
            if data[at]:
                self._stream.reset(CANCEL)
                self._end(grpc.StatusCode.INTERNAL, "the worker compressed a message, which it was asked not to do")
                return
            if end - begin < size:
                break
            at = begin + size
            self._messages.append(data[begin:at])
        self._rest = data[at:] if at < end else b""
        _wake(self._news)

    def stream_ended(self) -> None:
        """Without a status it is no gRPC."""
        http = self._http_status.decode("ascii", "replace")
        self._end(grpc.StatusCode.UNKNOWN, f"the call ended without a status (HTTP status {http})")

    def stream_reset(self, error_code: int) -> None:
        """The worker, or its server, gave the call up."""
        self.refused = self.refused or (self.code is None and error_code == REFUSED_STREAM)
        code = _RESETS.get(error_code, grpc.StatusCode.INTERNAL)
        self._end(code, f"the worker reset the call (HTTP/2 error {error_code})")

    def connection_lost(self, reason: str, *, refused: bool) -> None:
        """The worker is gone, or going."""
        self.refused = self.refused or (self.code is None and refused)
        self._end(grpc.StatusCode.UNAVAILABLE, reason)

    def may_write(self) -> None:
        """Try again."""
        _wake(self._room)

    # ------------------------------------------------------------------ inside

    def _consume(self) -> None:
        if self._unconsumed:
            self._stream.consumed(self._unconsumed)
            self._unconsumed = 0

    def _end(self, code: grpc.StatusCode, details: str) -> None:
        if self.code is None:  # the first word about it counts
            self.code, self.details = code, details
        _wake(self._news)
        _wake(self._room)
        _wake(self._over)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
