"""Our end of HTTP/2, against a peer that is played frame by frame, and against gRPC's own server."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from ripieno.agent.transport import frames, http2
from ripieno.agent.transport.calls import Call, CallEndedError
from ripieno.agent.transport.http2 import connect
from ripieno.agent.transport.keepalive import Keepalive
from ripieno.agent.transport.streams import STREAM_WINDOW_BYTES
from unit.agent.bare_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    METHOD,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Peer,
    all_of,
    message_of,
    played,
)


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
        peer.begin_answer(stream)
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
        ([(":status", "200"), ("content-type", "application/grpc")], grpc.StatusCode.UNKNOWN, "without a status"),
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
        peer.begin_answer(stream)
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
        assert "does not speak HTTP/2 as it should" in call.details
        assert not connection.usable


async def test_a_compressed_message_is_not_taken(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        _, stream, _ = await peer.next(HEADERS)
        peer.begin_answer(stream)
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
    ready = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.greet((0x4, 1_000), (0x5, 20_000))
        while not (await peer.next(SETTINGS))[0] & ACK:
            pass
        ready.set()
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
        await ready.wait()  # what is sent before its settings are known is the peer's own risk
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
        peer.begin_answer(stream)
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
        peer.begin_answer(stream)
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


async def test_a_peer_that_vanished_is_noticed(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        for _ in range(3):
            _, _, payload = await peer.next(PING)
            peer.send(PING, ACK, 0, payload)
        await peer.next(PING)  # and no word more

    async with played(tmp_path, play, keepalive=Keepalive(0.1, 0.5)) as connection:
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


@pytest.mark.parametrize("says", [False, True], ids=["silent", "unacknowledged"])
async def test_settings_that_are_not_taken_in_time_end_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bool
) -> None:
    monkeypatch.setattr(http2, "SETTINGS_S", 0.5)

    async def play(peer: Peer) -> None:
        if says:
            await peer.greet()
        else:
            await peer.next_after_preface(HEADERS)
        _, _, payload = await peer.next(GOAWAY)
        assert int.from_bytes(payload[4:8]) == frames.SETTINGS_TIMEOUT

    async with played(tmp_path, play, limit_s=60) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await call.read() == []
        assert call.code is grpc.StatusCode.UNAVAILABLE
        assert "no settings were said or taken within 0.5 s" in call.details
        assert not connection.usable
