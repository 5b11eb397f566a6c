"""A bare peer of HTTP/2: the worker's end of a connection, played frame by frame by a test."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

from hpack import Decoder, Encoder

from ripieno.agent.transport.calls import Call
from ripieno.agent.transport.http2 import Connection, connect
from ripieno.agent.transport.keepalive import Keepalive
from ripieno.agent.transport.streams import STREAM_WINDOW_BYTES

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
METHOD = b"/ArmoniK.api.grpc.v1.Worker/Process"
ANSWER = ((":status", "200"), ("content-type", "application/grpc"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Peer:
    """The worker's end of one connection, to be played by a test.

    Attributes:
        begun: Answers that were begun.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.encoder, self.decoder = Encoder(), Decoder()
        self.begun = 0
        self._reader, self._writer = reader, writer
        self._held: bytearray | None = None

    async def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, stream, payload."""
        head = await self._reader.readexactly(9)
        size = int.from_bytes(head[:3])
        return head[3], head[4], int.from_bytes(head[5:]), await self._reader.readexactly(size)

    async def next(self, kind: int) -> tuple[int, int, bytes]:
        """The next frame of that kind, others passed over: flags, stream, payload."""
        while True:
            got, flags, stream, payload = await self.frame()
            if got == kind:
                return flags, stream, payload

    async def next_after_preface(self, kind: int) -> None:
        """The same for a peer that has not greeted."""
        assert await self._reader.readexactly(len(PREFACE)) == PREFACE
        await self.next(kind)

    def stop_reading(self) -> None:
        """Take nothing any more from the socket."""
        cast(asyncio.ReadTransport, self._writer.transport).pause_reading()

    async def pour(self, data: bytes) -> None:
        """Send, and wait until it is on its way."""
        self._writer.write(data)
        await self._writer.drain()

    async def greet(self, *settings: tuple[int, int]) -> None:
        assert await self._reader.readexactly(len(PREFACE)) == PREFACE
        self.send(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *each) for each in settings))

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.raw(len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload)

    def send_headers(self, stream: int, *headers: tuple[str, str], end: bool = False) -> None:
        flags = END_HEADERS | (END_STREAM if end else 0)
        self.send(HEADERS, flags, stream, self.encoder.encode(list(headers)))

    def send_message(self, stream: int, message: bytes) -> None:
        self.send(DATA, 0, stream, b"\0" + len(message).to_bytes(4) + message)

    async def send_data(self, stream: int, size: int) -> None:
        """Zeros, as fast as the windows of the stream allow."""
        window = STREAM_WINDOW_BYTES - 5
        while size:
            part = min(size, 16_384)
            while window < part:
                _, updated, payload = await self.next(WINDOW_UPDATE)
                window += int.from_bytes(payload) if updated == stream else 0
            await self.pour(part.to_bytes(3) + b"\0\0" + stream.to_bytes(4) + bytes(part))
            size, window = size - part, window - part

    def answer(self, stream: int, *messages: bytes) -> None:
        """A whole answer, with status OK."""
        self.begin_answer(stream)
        for message in messages:
            self.send_message(stream, message)
        self.send_headers(stream, ("grpc-status", "0"), end=True)

    def raw(self, data: bytes) -> None:
        if self._held is None:
            self._writer.write(data)
        else:
            self._held += data

    async def drip(self, say: Callable[[], None]) -> None:
        """Send what it says byte by byte."""
        self._held = bytearray()
        say()
        held, self._held = self._held, None
        for byte in held:
            self._writer.write(bytes([byte]))
            await self._writer.drain()
            await asyncio.sleep(0)

    def begin_answer(self, stream: int) -> None:
        """The first headers of an answer of gRPC."""
        self.begun += 1
        self.send_headers(stream, *ANSWER)

    def close(self) -> None:
        self._writer.close()


Play = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def played(
    tmp_path: Path, play: Play, *, keepalive: Keepalive | None = None, limit_s: float = 10
) -> AsyncIterator[Connection]:
    """A connection to a peer that plays its part; what it asserts is asserted."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await play(Peer(reader, writer))
        except Exception as error:  # noqa: BLE001 - it is the test's
            ended.set_exception(error)
        else:
            ended.set_result(None)
        with suppress(OSError):
            await reader.read()
            writer.close()
            await writer.wait_closed()
        gone.set()

    server = await asyncio.start_unix_server(serve, tmp_path / "peer")
    connection = await connect(f"unix:{tmp_path / 'peer'}", keepalive=keepalive)
    try:
        async with asyncio.timeout(limit_s):
            yield connection
            await asyncio.shield(ended)
    finally:
        connection.close()
        await gone.wait()
        server.close()


async def all_of(call: Call) -> list[bytes]:
    """All messages until the end of the call."""
    messages = []
    while more := await call.read():
        messages += more
    return messages


def message_of(payload: bytes) -> bytes:
    assert payload[0] == 0
    assert int.from_bytes(payload[1:5]) == len(payload) - 5
    return payload[5:]
