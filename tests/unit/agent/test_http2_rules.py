"""Every rule of the table, broken by a bare peer over a real socket."""

import asyncio
from pathlib import Path

import grpc
import pytest

from ripieno.agent.transport.calls import Call
from ripieno.agent.transport.frames import name_of_error
from ripieno.agent.transport.streams import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from unit.agent.bare_peer import (
    ACK,
    DATA,
    GOAWAY,
    HEADERS,
    METHOD,
    PING,
    RST_STREAM,
    Peer,
    all_of,
    played,
)
from unit.agent.http2_rules import IGNORED, RULES, Ends, Ignored, Resets, Rule


def _is(kind: type[Ends | Resets | Ignored]) -> list[object]:
    return [pytest.param(rule, id=f"{rule.section} {rule.breach}") for rule in RULES if isinstance(rule.outcome, kind)]


@pytest.mark.parametrize("rule", _is(Ends))
async def test_the_connection_ends(tmp_path: Path, rule: Rule) -> None:
    assert isinstance(rule.outcome, Ends)
    code = rule.outcome.code

    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        rule.play(peer)
        _, stream, payload = await peer.next(GOAWAY)
        assert (stream, int.from_bytes(payload[4:8])) == (0, code)
        with pytest.raises(asyncio.IncompleteReadError):
            await peer.frame()

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        await all_of(call)
        if call.code is not grpc.StatusCode.UNKNOWN:  # it may have ended before the breach
            assert name_of_error(code) in call.details or "reset the call" in call.details
        while connection.usable:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("rule", _is(Resets))
async def test_the_stream_ends_and_the_connection_goes_on(tmp_path: Path, rule: Rule) -> None:
    assert isinstance(rule.outcome, Resets)
    code = rule.outcome.code

    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        rule.play(peer)
        assert await peer.next(RST_STREAM) == (0, 1, code.to_bytes(4))
        _, stream, _ = await peer.next(HEADERS)
        assert stream == 3
        peer.answer(stream, b"second")

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.code is grpc.StatusCode.INTERNAL
        assert name_of_error(code) in call.details
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == [b"second"]
        assert call.code is grpc.StatusCode.OK


@pytest.mark.parametrize("rule", _is(Ignored))
async def test_nothing_comes_of_it(tmp_path: Path, rule: Rule) -> None:
    assert rule.outcome is IGNORED

    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        begun = peer.begun
        rule.play(peer)
        if peer.begun == begun:
            peer.begin_answer(1)
        peer.send_message(1, b"all")
        peer.send_headers(1, ("grpc-status", "0"), end=True)

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == [b"all"]
        assert call.code is grpc.StatusCode.OK
        assert connection.usable


async def test_more_data_than_a_stream_may_bring(tmp_path: Path) -> None:
    """Section 5.2: nobody reads, and the peer sends all the same."""
    ended = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        peer.begin_answer(1)
        for _ in range(STREAM_WINDOW_BYTES // 16_000 + 1):
            peer.send_message(1, bytes(15_995))
        assert await peer.next(RST_STREAM) == (0, 1, (3).to_bytes(4))
        peer.send(DATA, 0, 1, bytes(16_000))  # it had not heard of that yet
        peer.send(PING, 0, 0, bytes(8))
        assert (await peer.next(PING))[0] == ACK
        ended.set()

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        await ended.wait()
        assert len(await call.read()) == STREAM_WINDOW_BYTES // 16_000
        assert call.code is grpc.StatusCode.INTERNAL
        assert "FLOW_CONTROL_ERROR: more data" in call.details.replace("(", "").replace(")", "")
        assert connection.usable


async def test_what_a_reset_stream_brings_counts_for_the_connection(tmp_path: Path) -> None:
    """Section 5.2: late data are ignored, and given room for, as far as the rules of a flood go."""

    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(RST_STREAM)
        got = 0
        for _ in range(2 * CONNECTION_WINDOW_BYTES // 16_000):
            peer.send(DATA, 0, 1, bytes(16_000))
            got += 16_000
        peer.send(PING, 0, 0, bytes(8))
        assert (await peer.next(PING))[0] == ACK

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        call.cancel()
        assert call.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("begins", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-server\r\n", bytes(9)])
async def test_a_peer_that_does_not_begin_as_it_should(tmp_path: Path, begins: bytes) -> None:
    """Section 3.4: a server's first frame is SETTINGS."""

    async def play(peer: Peer) -> None:
        peer.raw(begins)
        await peer.next_after_preface(GOAWAY)

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.code is grpc.StatusCode.UNAVAILABLE
        assert "as it should" in call.details
        if begins.startswith(b"HTTP"):
            assert "it answers in HTTP/1: 'HTTP/1.1 400 Bad Request'" in call.details


async def flood(peer: Peer) -> None:
    while True:
        await peer.pour((b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)) * 9_000)
        await asyncio.sleep(1.1)  # what is too much is measured by the second


async def test_a_peer_that_asks_and_does_not_read(tmp_path: Path) -> None:
    """Section 10.5: answers to its pings do not pile up."""

    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        peer.stop_reading()
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionError):
                await flood(peer)

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert call.code is grpc.StatusCode.UNAVAILABLE
        assert "does not read" in call.details


async def test_the_number_of_streams_that_a_peer_takes(tmp_path: Path) -> None:
    """Section 5.1.2: a call beyond it is refused here, before anything of it is sent."""

    async def play(peer: Peer) -> None:
        await peer.greet((0x3, 1))
        await peer.next(HEADERS)
        peer.begin_answer(1)
        peer.send_message(1, b"one")
        await refused.wait()
        peer.send_headers(1, ("grpc-status", "0"), end=True)
        _, stream, _ = await peer.next(HEADERS)
        assert stream == 3
        peer.answer(stream, b"three")

    refused = asyncio.Event()
    async with played(tmp_path, play) as connection:
        first = Call(connection, METHOD)
        await first.write([b"x"])
        assert await first.read() == [b"one"]
        second = Call(connection, METHOD)
        assert (second.code, second.refused) == (grpc.StatusCode.UNAVAILABLE, True)
        assert second.details == "the peer takes 1 streams at a time"
        refused.set()
        assert await all_of(first) == []
        third = Call(connection, METHOD)
        await third.write([b"x"])
        assert await all_of(third) == [b"three"]


async def test_goaway_twice_with_a_reason(tmp_path: Path) -> None:
    """Section 6.8: the second names fewer streams; who is told so knows why."""

    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.next(HEADERS)
        peer.send(GOAWAY, 0, 0, (2**31 - 1).to_bytes(4) + bytes(4))
        peer.send(GOAWAY, 0, 0, bytes(4) + (11).to_bytes(4) + b"too_many_pings")

    async with played(tmp_path, play) as connection:
        call = Call(connection, METHOD)
        await call.write([b"x"])
        assert await all_of(call) == []
        assert (call.code, call.refused) == (grpc.StatusCode.UNAVAILABLE, True)
        assert "ENHANCE_YOUR_CALM: 'too_many_pings'" in call.details
        later = Call(connection, METHOD)
        assert later.refused
