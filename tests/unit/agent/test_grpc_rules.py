"""gRPC's rules for an answer, broken by a bare peer: what the call ends with."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from ripieno.agent.transport.calls import Call, CallEndedError
from ripieno.agent.transport.grpc_framing import LARGEST_MESSAGE_BYTES, MessageCutter
from unit.agent.bare_peer import ANSWER, DATA, END_STREAM, HEADERS, METHOD, RST_STREAM, Peer, all_of, played

Code = grpc.StatusCode
Play = Callable[[Peer], None]


def ends(*headers: tuple[str, str]) -> Play:
    """An answer of headers alone."""
    return lambda peer: peer.send_headers(1, *headers, end=True)


def page(status: int) -> Play:
    """What a proxy answers that speaks HTTP and not gRPC."""

    def play(peer: Peer) -> None:
        peer.send_headers(1, (":status", str(status)), ("content-type", "text/html"))
        peer.send(DATA, END_STREAM, 1, b"<html><body>Bad Gateway</body></html>")

    return play


def body(data: bytes, *trailers: tuple[str, str]) -> Play:
    """An answer with this body."""

    def play(peer: Peer) -> None:
        peer.begin_answer(1)
        peer.send(DATA, 0 if trailers else END_STREAM, 1, data)
        if trailers:
            peer.send_headers(1, *trailers, end=True)

    return play


def trailers(*fields: tuple[str, str]) -> Play:
    return body(b"", *fields)


OK = ("grpc-status", "0")
PLAIN = (":status", "200")


@pytest.mark.parametrize(
    ("play", "code", "details"),
    [
        pytest.param(ends(*ANSWER, OK), Code.OK, "", id="trailers only"),
        pytest.param(ends(*ANSWER, ("grpc-status", "5"), ("grpc-message", "no")), Code.NOT_FOUND, "no", id="and failed"),
        pytest.param(page(400), Code.INTERNAL, "HTTP status 400", id="400"),
        pytest.param(page(401), Code.UNAUTHENTICATED, "HTTP status 401", id="401"),
        pytest.param(page(403), Code.PERMISSION_DENIED, "HTTP status 403", id="403"),
        pytest.param(page(404), Code.UNIMPLEMENTED, "HTTP status 404", id="404"),
        pytest.param(page(429), Code.UNAVAILABLE, "HTTP status 429", id="429"),
        pytest.param(page(502), Code.UNAVAILABLE, "HTTP status 502, content-type 'text/html'", id="502"),
        pytest.param(page(503), Code.UNAVAILABLE, "HTTP status 503", id="503"),
        pytest.param(page(504), Code.UNAVAILABLE, "HTTP status 504", id="504"),
        pytest.param(page(500), Code.UNKNOWN, "HTTP status 500", id="500"),
        pytest.param(page(302), Code.UNKNOWN, "HTTP status 302", id="302"),
        pytest.param(page(200), Code.UNKNOWN, "content-type 'text/html'", id="a page"),
        pytest.param(ends((":status", "503"), ("grpc-status", "8")), Code.RESOURCE_EXHAUSTED, "", id="its own status"),
        pytest.param(ends(PLAIN), Code.UNKNOWN, "content-type ''", id="no content type"),
        pytest.param(ends(PLAIN, ("content-type", "application/grpcx")), Code.UNKNOWN, "grpcx", id="another type"),
        pytest.param(ends(PLAIN, ("content-type", "application/grpc-web")), Code.UNKNOWN, "grpc-web", id="gRPC-Web"),
        pytest.param(
            ends(PLAIN, ("content-type", "application/grpc+proto")), Code.UNKNOWN, "without a status", id="no status"
        ),
        pytest.param(body(b""), Code.UNKNOWN, "without a status", id="no trailers"),
        pytest.param(trailers(("x", "y")), Code.UNKNOWN, "without a status", id="trailers without a status"),
        pytest.param(trailers(("grpc-status", "")), Code.UNKNOWN, "grpc-status ''", id="an empty status"),
        pytest.param(trailers(("grpc-status", "OK")), Code.UNKNOWN, "grpc-status 'OK'", id="a status in words"),
        pytest.param(trailers(("grpc-status", "-1")), Code.UNKNOWN, "grpc-status '-1'", id="a negative status"),
        pytest.param(trailers(("grpc-status", "17")), Code.UNKNOWN, "grpc-status '17'", id="an unknown status"),
        pytest.param(trailers(("grpc-status", "9" * 5_000)), Code.UNKNOWN, "999'...", id="a status of 5,000 digits"),
        pytest.param(
            trailers(("grpc-status", "3"), ("grpc-message", "a%20%C3%A4%0A")), Code.INVALID_ARGUMENT, "a ä\n", id="percent"
        ),
        pytest.param(
            trailers(("grpc-status", "3"), ("grpc-message", "50% %zz %")), Code.INVALID_ARGUMENT, "50% %zz %", id="broken percent"
        ),
        pytest.param(
            trailers(("grpc-status", "3"), ("grpc-message", "%ED%B3%A9")), Code.INVALID_ARGUMENT, "\ufffd", id="a surrogate"
        ),
        pytest.param(body(b"\0\0\0\0\x09cut", OK), Code.INTERNAL, "within a message", id="a message cut off"),
        pytest.param(body(b"\0\0\0", OK), Code.INTERNAL, "within a message", id="a prefix cut off"),
        pytest.param(body(b"\0\0\0\0\x09cut", ("grpc-status", "8")), Code.RESOURCE_EXHAUSTED, "", id="cut off and failed"),
        pytest.param(body(b"\1\0\0\0\1x"), Code.INTERNAL, "compressed", id="a compressed message"),
        pytest.param(body(b"<html>"), Code.INTERNAL, "begins with 0x3c", id="a page that claims to be gRPC"),
        pytest.param(
            body(b"\0\xff\xff\xff\xff"), Code.RESOURCE_EXHAUSTED, "a message of 4294967295 bytes", id="a message of 4 GiB"
        ),
    ],
)  # fmt: skip
async def test_how_a_call_ends(tmp_path: Path, play: Play, code: Code, details: str) -> None:
    async def serve(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        play(peer)
        await peer.next(RST_STREAM)  # nothing is left open on our side either
        _, second, _ = await peer.next(HEADERS)
        peer.answer(second, b"next")

    async with played(tmp_path, serve) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.code is code
        assert details in call.details
        assert len(call.status) < 20_000
        after = Call(connection, METHOD)
        await after.write([b"x"])
        assert await all_of(after) == [b"next"]


async def test_a_status_that_does_not_end_the_stream(tmp_path: Path) -> None:
    """It is believed, and the stream given up: nothing of it stays."""

    async def play(peer: Peer) -> None:
        await peer.greet()
        for status in ("0", "13"):
            _, stream, _ = await peer.next(HEADERS)
            peer.begin_answer(stream)
            peer.send_headers(stream, ("grpc-status", status))
            assert (await peer.next(RST_STREAM))[1] == stream

    async with played(tmp_path, play) as connection:
        for code in (Code.OK, Code.INTERNAL):
            call = Call(connection, METHOD)
            await call.write([b"x"])
            assert await all_of(call) == []
            assert call.code is code


async def test_a_message_of_64_mib_arrives_soon_and_lets_others_run(tmp_path: Path) -> None:
    size = 64 * 1024 * 1024

    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        peer.begin_answer(1)
        peer.send(DATA, 0, 1, b"\0" + size.to_bytes(4))
        await peer.send_data(1, size)
        peer.send_headers(1, OK, end=True)

    async with played(tmp_path, play, limit_s=60) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert [len(message) for message in await all_of(call)] == [size]
        assert call.code is Code.OK


def test_gathering_takes_time_in_proportion() -> None:
    """Twice as long a message takes about twice as long, however small the pieces."""

    def took(size: int) -> float:
        cutter, piece = MessageCutter(), bytes(64)
        messages: list[bytes] = []
        began = time.process_time()
        cutter.feed(b"\0" + size.to_bytes(4))
        for _ in range(size // len(piece)):
            messages = cutter.feed(piece)
        assert [len(message) for message in messages] == [size]
        return time.process_time() - began

    took(1 << 20)
    assert took(16 << 20) < 4 * 4 * took(4 << 20)


def test_the_longest_message() -> None:
    cutter = MessageCutter()
    assert cutter.feed(b"\0" + LARGEST_MESSAGE_BYTES.to_bytes(4) + b"x") == []
    assert cutter.within


async def test_a_writer_whose_peer_opens_no_window_waits(tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        got = 0
        while got < 65_535:
            got += len((await peer.next(DATA))[2])
        assert got == 65_535
        waiting.set()
        await asyncio.sleep(0.2)
        peer.send(RST_STREAM, 0, 1, (8).to_bytes(4))

    waiting = asyncio.Event()
    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        writing = asyncio.create_task(call.write([bytes(8_000_000)]))
        await waiting.wait()
        assert not writing.done()
        with pytest.raises(CallEndedError):
            await writing
