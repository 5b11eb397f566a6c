"""Our end of HTTP/2, against a peer that is played frame by frame, and against gRPC's own server."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import grpc.aio
import pytest
from hpack import Decoder, Encoder

from ripieno.agent import http2
from ripieno.agent.calls import Call, CallEndedError
from ripieno.agent.http2 import STREAM_WINDOW_BYTES, Connection, connect

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
METHOD = b"/ArmoniK.api.grpc.v1.Worker/Process"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Peer:
    """The worker's end of one connection, to be played by a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.encoder, self.decoder = Encoder(), Decoder()
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

    def answer(self, stream: int, *messages: bytes) -> None:
        """A whole answer, with status OK."""
        self.send_headers(stream, (":status", "200"), ("content-type", "application/grpc"))
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

    def close(self) -> None:
        self._writer.close()


Play = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def played(tmp_path: Path, play: Play, *, keepalive: bool = False) -> AsyncIterator[Connection]:
    """A connection to a peer that plays its part; what it asserts is asserted."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
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
        async with asyncio.timeout(10):
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


async def test_a_call_as_grpc_asks_for_it(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        flags, stream, block = await peer.next(HEADERS)
        assert flags & END_HEADERS and not flags & END_STREAM
        headers = {bytes(name): bytes(value) for name, value in peer.decoder.decode(block, raw=True)}
        assert headers[b":method"] == b"POST"
        assert headers[b":path"] == b"/ArmoniK.api.grpc.v1.Worker/Process"
        assert headers[b":scheme"] == b"http"
        assert headers[b":authority"] == b"localhost"
        assert headers[b"content-type"] == b"application/grpc"
        assert headers[b"te"] == b"trailers"
        _, _, payload = await peer.next(DATA)
        assert payload == b"\0\0\0\0\x03one\0\0\0\0\0"
        peer.send_headers(stream, (":status", "200"), ("content-type", "application/grpc"))
        for message in (b"uno", b"", b"due"):
            peer.send_message(stream, message)
        flags, _, payload = await peer.next(DATA)
        assert (flags & END_STREAM, payload) == (END_STREAM, b"")
        peer.send_headers(stream, ("grpc-status", "0"), end=True)

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"one", b""])
        messages = await call.read()
        call.half_close()
        assert messages + await all_of(call) == [b"uno", b"", b"due"]
        assert call.code is grpc.StatusCode.OK
        assert connection.usable


async def test_calls_follow_one_another(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        for number in range(50):
            _, stream, block = await peer.next(HEADERS)
            assert stream == 2 * number + 1
            peer.decoder.decode(block)
            _, _, payload = await peer.next(DATA)
            peer.answer(stream, message_of(payload))

    async with played(tmp_path, play) as connection:
        for number in range(50):
            call = Call(connection, METHOD)
            await call.write([b"%d" % number])
            assert await all_of(call) == [b"%d" % number]
            assert call.code is grpc.StatusCode.OK


async def test_the_status_of_a_call_that_fails(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.send_headers(
            stream, (":status", "200"), ("grpc-status", "3"), ("grpc-message", "not%20so%0a%C3%A4"), end=True
        )
        # We had not half-closed: the stream is given up on our side, too.
        assert await peer.next(RST_STREAM) == (0, stream, bytes(4))

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert (call.code, call.details) == (grpc.StatusCode.INVALID_ARGUMENT, "not so\nä")
        with pytest.raises(CallEndedError):
            await call.write([b"more"])


@pytest.mark.parametrize(
    ("headers", "code", "details"),
    [
        ([(":status", "503")], grpc.StatusCode.UNKNOWN, "HTTP status 503"),
        ([(":status", "200"), ("grpc-status", "99")], grpc.StatusCode.UNKNOWN, ""),
        ([(":status", "200"), ("grpc-status", "x")], grpc.StatusCode.UNKNOWN, ""),
    ],
)
async def test_an_end_without_a_status_that_is_one(
    tmp_path: Path, headers: list[tuple[str, str]], code: grpc.StatusCode, details: str
) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.send_headers(stream, *headers, end=True)

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.code is code
        assert details in call.details


@pytest.mark.parametrize(
    ("error", "code", "refused"),
    [
        (0x0, grpc.StatusCode.INTERNAL, False),
        (0x2, grpc.StatusCode.INTERNAL, False),
        (0x7, grpc.StatusCode.UNAVAILABLE, True),
        (0x8, grpc.StatusCode.CANCELLED, False),
        (0xB, grpc.StatusCode.RESOURCE_EXHAUSTED, False),
    ],
)
async def test_a_call_that_is_reset(tmp_path: Path, error: int, code: grpc.StatusCode, *, refused: bool) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.send(RST_STREAM, 0, stream, error.to_bytes(4))

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert (call.code, call.refused) == (code, refused)
        assert connection.usable


async def test_a_reset_behind_the_status_is_of_no_interest(tmp_path: Path) -> None:
    """How gRPC's own server ends a call that its client has not half-closed."""

    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.answer(stream, b"all")
        peer.send(RST_STREAM, 0, stream, bytes(4))

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == [b"all"]
        assert (call.code, call.refused) == (grpc.StatusCode.OK, False)


async def test_a_server_that_drains_ends_its_call_in_peace(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.send(GOAWAY, 0, 0, (2**31 - 1).to_bytes(4) + bytes(4))
        peer.send(PING, 0, 0, b"12345678")
        flags, _, payload = await peer.next(PING)
        assert (flags, payload) == (ACK, b"12345678")
        peer.send(GOAWAY, 0, 0, stream.to_bytes(4) + bytes(4) + b"draining")
        _, _, payload = await peer.next(DATA)
        peer.answer(stream, message_of(payload))
        with pytest.raises(asyncio.IncompleteReadError):
            await peer.next(GOAWAY)  # nothing is left to be done here: the connection is closed

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([])
        while connection.usable:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        await call.write([b"still here"])
        assert await all_of(call) == [b"still here"]
        assert call.code is grpc.StatusCode.OK


async def test_what_a_draining_server_never_looked_at_is_refused(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        peer.send(GOAWAY, 0, 0, bytes(8))

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.refused
        assert call.code is grpc.StatusCode.UNAVAILABLE
        assert not connection.usable


async def test_a_connection_that_ends(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.send_headers(stream, (":status", "200"))
        peer.send_message(stream, b"first")
        peer.close()

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == [b"first"]
        assert (call.code, call.refused) == (grpc.StatusCode.UNAVAILABLE, False)
        assert not connection.usable


async def test_headers_in_pieces_padding_and_priority(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        block = peer.encoder.encode([(":status", "200"), ("content-type", "application/grpc"), ("x-long", "y" * 500)])
        peer.send(HEADERS, PADDED | WITH_PRIORITY, stream, b"\x03" + bytes(5) + block[:10] + bytes(3))
        peer.send(CONTINUATION, 0, stream, block[10:20])
        peer.send(CONTINUATION, END_HEADERS, stream, block[20:])
        peer.send(PRIORITY, 0, stream, bytes(5))
        peer.send(0x77, 0, stream, b"of a kind that nobody knows")
        peer.send(DATA, PADDED, stream, b"\x04\0\0\0\0\x03tre" + bytes(4))
        block = peer.encoder.encode([("grpc-status", "0")])
        peer.send(HEADERS, END_STREAM, stream, block[:1])
        peer.send(CONTINUATION, END_HEADERS, stream, block[1:])

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == [b"tre"]
        assert call.code is grpc.StatusCode.OK


async def test_an_answer_byte_by_byte(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        await peer.drip(lambda: peer.answer(stream, b"one", b"two", b""))

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == [b"one", b"two", b""]
        assert call.code is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
        b"\x7f\xff\xff\0\0\0\0\0\0",
        b"\0\0\x04\x05\x04\0\0\0\x01" + bytes(4),  # a push
        b"\0\0\x01\x09\x04\0\0\0\x01\0",  # a continuation of nothing
        b"\0\0\x01\x01\0\0\0\0\x01\x82" + b"\0\0\x01\0\0\0\0\0\x01x",  # headers that do not end
        b"\0\0\x01\x01\x04\0\0\0\x01\xff",  # headers that cannot be read
        b"\0\0\x02\0\x08\0\0\0\x01\x09x",  # more padding than there is
        b"\0\0\x01\x03\0\0\0\0\x01x",  # a reset without its code
    ],
)
async def test_a_peer_that_does_not_speak_http2(tmp_path: Path, nonsense: bytes) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        peer.raw(nonsense)
        await peer.next(GOAWAY)

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.code is grpc.StatusCode.UNAVAILABLE
        assert "does not speak HTTP/2" in call.details
        assert not connection.usable


async def test_a_compressed_message_is_not_taken(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.send_headers(stream, (":status", "200"))
        peer.send(DATA, 0, stream, b"\x01\0\0\0\x01x")
        assert await peer.next(RST_STREAM) == (0, stream, (8).to_bytes(4))

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.code is grpc.StatusCode.INTERNAL
        assert "compressed" in call.details


async def test_a_cancelled_call_is_reset_and_its_late_data_ignored(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, first, _ = await peer.next(HEADERS)
        assert await peer.next(RST_STREAM) == (0, first, (8).to_bytes(4))
        peer.answer(first, b"late")
        _, second, _ = await peer.next(HEADERS)
        peer.answer(second, b"second")

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        call.cancel()
        assert await all_of(call) == []
        assert call.code is grpc.StatusCode.CANCELLED
        call = Call(connection, METHOD)
        await call.write([b"y"])
        assert await all_of(call) == [b"second"]


async def test_a_writer_keeps_to_the_windows(tmp_path: Path) -> None:
    data = bytes(range(256)) * 400

    async def play(peer: Peer) -> None:
        await peer.greet((0x4, 1_000), (0x5, 20_000))
        _, stream, _ = await peer.next(HEADERS)
        got = b""
        while len(got) < 1_000:
            _, _, payload = await peer.next(DATA)
            got += payload
        assert len(got) == 1_000
        peer.send(SETTINGS, 0, 0, struct.pack(">HL", 0x4, 1_500))  # 500 more, of this stream too
        while len(got) < 1_500:
            got += (await peer.next(DATA))[2]
        assert len(got) == 1_500
        peer.send(WINDOW_UPDATE, 0, stream, (200_000).to_bytes(4))
        while len(got) < 65_535:  # the connection's own window
            _, _, payload = await peer.next(DATA)
            assert len(payload) <= 20_000
            got += payload
        assert len(got) == 65_535
        peer.send(WINDOW_UPDATE, 0, 0, (200_000).to_bytes(4))
        while len(got) < len(data) + 5:
            got += (await peer.next(DATA))[2]
        assert message_of(got) == data
        peer.answer(stream)

    async with played(tmp_path, play) as connection:
        # Its settings come first: what we may send before is the peer's own risk.
        while connection.longest_frame != 20_000:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        call = Call(connection, METHOD)
        await call.write([data])
        assert await all_of(call) == []
        assert call.code is grpc.StatusCode.OK


async def test_a_writer_who_waits_hears_of_the_end(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet((0x4, 0))
        _, stream, _ = await peer.next(HEADERS)
        peer.send(RST_STREAM, 0, stream, (8).to_bytes(4))

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        with pytest.raises(CallEndedError):
            await call.write([bytes(100_000)])
        assert call.code is grpc.StatusCode.CANCELLED


async def test_a_reader_that_does_not_read_is_not_flooded(tmp_path: Path) -> None:
    sent = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.send_headers(stream, (":status", "200"))
        for _ in range(STREAM_WINDOW_BYTES // 8_192):
            peer.send_message(stream, bytes(8_187))
        peer.send(PING, 0, 0, bytes(8))
        while (frame := await peer.frame())[0] != PING:
            assert (frame[0], frame[2]) != (WINDOW_UPDATE, stream), "nothing of it was read"
        sent.set()
        while (frame := await peer.frame())[:3] != (WINDOW_UPDATE, 0, stream):
            pass
        assert int.from_bytes(frame[3]) == STREAM_WINDOW_BYTES
        peer.send_headers(stream, ("grpc-status", "0"), end=True)

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        await sent.wait()
        assert await all_of(call) == [bytes(8_187)] * (STREAM_WINDOW_BYTES // 8_192)


async def test_a_message_longer_than_the_window_comes_through(tmp_path: Path) -> None:
    size = 3 * STREAM_WINDOW_BYTES

    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.send_headers(stream, (":status", "200"))
        window, left = STREAM_WINDOW_BYTES, b"\0" + size.to_bytes(4) + bytes(size)
        while left:
            while not window:
                _, updated, payload = await peer.next(WINDOW_UPDATE)
                window += int.from_bytes(payload) if updated == stream else 0
            part = left[: min(window, 16_384)]
            peer.send(DATA, 0, stream, part)
            left, window = left[len(part) :], window - len(part)
        peer.send_headers(stream, ("grpc-status", "0"), end=True)

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert [len(message) for message in await all_of(call)] == [size]


async def test_against_grpcs_own_server(tmp_path: Path) -> None:
    """Messages of all sizes in both directions at once, many calls over one connection."""
    sizes = [0, 1, 100, 16_384, 65_536, 3_000_000]

    async def process(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while True:
            message: object = await context.read()
            if not isinstance(message, bytes):
                break
            await context.write(message)
        context.set_trailing_metadata([("x-more", "y" * 200)])

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(process)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    service = grpc.method_handlers_generic_handler("ArmoniK.api.grpc.v1.Worker", {"Process": handler})
    server.add_generic_rpc_handlers((service,))
    address = f"unix:{tmp_path / 'worker'}"
    server.add_insecure_port(address)
    await server.start()
    connection = await connect(address)
    try:
        for _ in range(20):
            call = Call(connection, METHOD)
            sent = [bytes([size % 251]) * size for size in sizes]

            async def write(call: Call = call, sent: list[bytes] = sent) -> None:
                for message in sent:
                    await call.write([message])
                call.half_close()

            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                tasks.create_task(write())
                assert await all_of(call) == sent
            assert call.code is grpc.StatusCode.OK
    finally:
        connection.close()
        await server.stop(0)


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await connect(f"unix:{tmp_path / 'nobody'}")
    with pytest.raises(OSError, match="Connect call failed"):
        await connect("127.0.0.1:1")


async def test_a_peer_that_vanished_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "KEEPALIVE_S", 0.05)
    monkeypatch.setattr(http2, "ANSWER_S", 0.1)

    async def play(peer: Peer) -> None:
        await peer.greet()
        for _ in range(3):
            _, _, payload = await peer.next(PING)
            peer.send(PING, ACK, 0, payload)
        await peer.next(PING)  # and no word more

    async with played(tmp_path, play, keepalive=True) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.code is grpc.StatusCode.UNAVAILABLE
        assert "nothing was heard" in call.details


async def test_the_end_of_a_call_that_another_task_reads(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        while not (await peer.next(DATA))[0] & END_STREAM:
            pass
        peer.answer(stream, b"last")

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(all_of(call))
            call.half_close()
            await call.ended()
            await call.ended()
        assert reading.result() == [b"last"]
