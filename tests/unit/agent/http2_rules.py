"""The table of HTTP/2's rules: what a bare peer does, and what must come of it.

A rule's breach is played on the first stream, 1, once our request is there; stream 1 has not been answered then.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from ripieno.agent.transport import frames
from ripieno.agent.transport.streams import LARGEST_CHATTER, LONGEST_FRAME_BYTES
from unit.agent.bare_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Peer,
)

LARGEST = 2**31 - 1
#: A message of gRPC of four bytes.
MESSAGE = b"\0\0\0\0\x04four"


@dataclass(frozen=True)
class Ends:
    """The connection ends with GOAWAY and this code; its calls are UNAVAILABLE."""

    code: int


@dataclass(frozen=True)
class Resets:
    """The stream is reset with this code, its call is INTERNAL, and the connection serves the next call."""

    code: int


@dataclass(frozen=True)
class Ignored:
    """Nothing comes of it: the call is answered as if nothing had been said."""


IGNORED = Ignored()


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        section: Of RFC 9113, or of RFC 7541 where it says so.
        breach: What the peer does, in words.
        play: Does it.
    """

    section: str
    breach: str
    play: Callable[[Peer], None]
    outcome: Ends | Resets | Ignored


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> Callable[[Peer], None]:
    return lambda peer: peer.send(kind, flags, stream, payload)


def settings(*each: tuple[int, int]) -> Callable[[Peer], None]:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *one) for one in each))


def headers(*fields: tuple[str, str], end: bool = False) -> Callable[[Peer], None]:
    return lambda peer: peer.send_headers(1, *fields, end=end)


def block(encoded: bytes) -> Callable[[Peer], None]:
    return frame(HEADERS, END_HEADERS, 1, encoded)


def times(count: int, kind: int, flags: int, stream: int, payload: bytes = b"") -> Callable[[Peer], None]:
    one = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload
    return lambda peer: peer.raw(one * count)


def all_of(*plays: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def play(peer: Peer) -> None:
        for each in plays:
            each(peer)

    return play


def answered(*plays: Callable[[Peer], None]) -> Callable[[Peer], None]:
    return all_of(lambda peer: peer.begin_answer(1), *plays)


def bomb(peer: Peer) -> None:
    """A field of 4,000 bytes enters the table; then it is named again and again, in a byte each."""
    peer.send(HEADERS, END_HEADERS, 1, peer.encoder.encode([("x-bomb", "y" * 3_900)], huffman=False) + b"\xbe" * 10_000)


P, F, S = frames.PROTOCOL_ERROR, frames.FLOW_CONTROL_ERROR, frames.FRAME_SIZE_ERROR
CALM, CLOSED, COMPRESSION = frames.ENHANCE_YOUR_CALM, frames.STREAM_CLOSED, frames.COMPRESSION_ERROR
OK = (":status", "200")
FLOOD = LARGEST_CHATTER + 1

RULES = [
    # Frames.
    Rule("4.1", "a frame of a kind that nobody knows", frame(0x77, 0xFF, 1, b"?"), IGNORED),
    Rule("4.1", "flags that mean nothing", frame(PING, 0xFE, 0, bytes(8)), IGNORED),
    Rule("4.1", "the reserved bit of a stream", lambda peer: peer.raw(b"\0\0\x05\x02\0\x80\0\0\x01" + bytes(5)), IGNORED),
    Rule("4.2", "a frame longer than agreed", frame(DATA, 0, 1, bytes(LONGEST_FRAME_BYTES + 1)), Ends(S)),
    Rule("4.2", "the head of a frame of 16 MiB", lambda peer: peer.raw(b"\xff\xff\xff\0\0\0\0\0\x01"), Ends(S)),
    Rule("4.3", "a block of headers between whose frames another stands",
         all_of(frame(HEADERS, 0, 1, b"\x88"), frame(PING, 0, 0, bytes(8))), Ends(P)),
    Rule("4.3", "headers that cannot be read", block(b"\xff\xff\xff\xff\xff\xff\xff\xff"), Ends(COMPRESSION)),
    Rule("RFC 7541 2.3.3", "an index outside the table", block(b"\xff\x20"), Ends(COMPRESSION)),
    Rule("RFC 7541 5.1", "a number without end", block(b"\x7f" + b"\xff" * 16_000), Ends(COMPRESSION)),
    Rule("RFC 7541 5.2", "a string that is cut off", block(b"\x88\x00\x7f"), Ends(COMPRESSION)),
    Rule("RFC 7541 6.3", "a table larger than agreed", block(b"\x3f\xe1\x7f\x88"), Ends(COMPRESSION)),
    Rule("RFC 7541 7.3", "a small block of headers that becomes 40 MB", bomb, Ends(COMPRESSION)),
    # Streams.
    Rule("5.1", "DATA on an idle stream", frame(DATA, 0, 3, b"x"), Ends(P)),
    Rule("5.1", "HEADERS on an idle stream", lambda peer: peer.send_headers(3, OK), Ends(P)),
    Rule("5.1", "RST_STREAM on an idle stream", frame(RST_STREAM, 0, 3, bytes(4)), Ends(P)),
    Rule("5.1", "WINDOW_UPDATE on an idle stream", frame(WINDOW_UPDATE, 0, 3, bytes([0, 0, 0, 1])), Ends(P)),
    Rule("5.1", "PRIORITY on an idle stream", frame(PRIORITY, 0, 3, bytes(5)), IGNORED),
    Rule("5.1.1", "a stream that a server would open", lambda peer: peer.send_headers(2, OK), Ends(P)),
    Rule("5.1.1", "DATA on such a stream", frame(DATA, 0, 2, b"x"), Ends(P)),
    # DATA.
    Rule("6.1", "DATA on stream 0", frame(DATA, 0, 0, b"x"), Ends(P)),
    Rule("6.1", "more padding than there is", answered(frame(DATA, PADDED, 1, b"\x09x")), Ends(P)),
    Rule("6.1", "padding without its length", answered(frame(DATA, PADDED, 1)), Ends(S)),
    Rule("6.1", "nothing but padding", answered(frame(DATA, PADDED, 1, b"\x09" + bytes(9))), IGNORED),
    Rule("6.1", "DATA behind the end", answered(frame(DATA, END_STREAM, 1), frame(DATA, 0, 1, b"x")), Ends(CLOSED)),
    # HEADERS and CONTINUATION.
    Rule("6.2", "HEADERS on stream 0", lambda peer: peer.send_headers(0, OK), Ends(P)),
    Rule("6.2", "a priority that is cut off", frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"abc"), Ends(S)),
    Rule("6.2", "HEADERS with more padding than there is", frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09\x88"), Ends(P)),
    Rule("6.10", "a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, b"\x88"), Ends(P)),
    Rule("6.10", "a continuation on another stream",
         all_of(frame(HEADERS, 0, 1, b"\x88"), frame(CONTINUATION, END_HEADERS, 3)), Ends(P)),
    Rule("10.5", "a block of headers that never ends",
         all_of(frame(HEADERS, 0, 1), *[frame(CONTINUATION, 0, 1, bytes(16_000))] * 5), Ends(CALM)),
    Rule("10.5", "empty continuations", all_of(frame(HEADERS, 0, 1), times(FLOOD, CONTINUATION, 0, 1)), Ends(CALM)),
    # PRIORITY, RST_STREAM.
    Rule("6.3", "PRIORITY", frame(PRIORITY, 0, 1, bytes(5)), IGNORED),
    Rule("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), Ends(P)),
    Rule("6.3", "PRIORITY of four bytes", frame(PRIORITY, 0, 1, bytes(4)), Resets(S)),
    Rule("6.4", "RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, bytes(4)), Ends(P)),
    Rule("6.4", "RST_STREAM of three bytes", frame(RST_STREAM, 0, 1, bytes(3)), Ends(S)),
    # SETTINGS.
    Rule("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1), Ends(P)),
    Rule("6.5", "SETTINGS of five bytes", frame(SETTINGS, 0, 0, bytes(5)), Ends(S)),
    Rule("6.5", "an acknowledgement with settings", frame(SETTINGS, ACK, 0, bytes(6)), Ends(S)),
    Rule("6.5", "an acknowledgement of nothing", frame(SETTINGS, ACK, 0), IGNORED),
    Rule("6.5.2", "a setting that nobody knows", settings((0x99, 7)), IGNORED),
    Rule("6.5.2", "ENABLE_PUSH 0", settings((frames.ENABLE_PUSH, 0)), IGNORED),
    Rule("6.5.2", "ENABLE_PUSH 1", settings((frames.ENABLE_PUSH, 1)), Ends(P)),
    Rule("6.5.2", "ENABLE_PUSH 2", settings((frames.ENABLE_PUSH, 2)), Ends(P)),
    Rule("6.5.2", "a window of 2^31", settings((frames.INITIAL_WINDOW_SIZE, LARGEST + 1)), Ends(F)),
    Rule("6.5.2", "the largest window", settings((frames.INITIAL_WINDOW_SIZE, LARGEST)), IGNORED),
    Rule("6.5.2", "frames of 16,383 bytes", settings((frames.MAX_FRAME_SIZE, 16_383)), Ends(P)),
    Rule("6.5.2", "frames of no bytes", settings((frames.MAX_FRAME_SIZE, 0)), Ends(P)),
    Rule("6.5.2", "frames of 2^24 bytes", settings((frames.MAX_FRAME_SIZE, 2**24)), Ends(P)),
    Rule("6.5.2", "the longest frames", settings((frames.MAX_FRAME_SIZE, 2**24 - 1)), IGNORED),
    Rule("6.5.2", "no table of headers", settings((frames.HEADER_TABLE_SIZE, 0)), IGNORED),
    Rule("6.5.2", "no streams, while one is open", settings((frames.MAX_CONCURRENT_STREAMS, 0)), IGNORED),
    Rule("6.9.2", "a window that grows beyond 2^31 - 1",
         all_of(frame(WINDOW_UPDATE, 0, 1, (LARGEST - 65_535).to_bytes(4)),
                settings((frames.INITIAL_WINDOW_SIZE, 100_000))), Ends(F)),
    Rule("6.9.2", "a window below nothing, and back",
         all_of(settings((frames.INITIAL_WINDOW_SIZE, 0)), settings((frames.INITIAL_WINDOW_SIZE, 65_535))), IGNORED),
    # PUSH_PROMISE, PING, GOAWAY.
    Rule("6.6", "a push, which was declined", frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + b"\x88"), Ends(P)),
    Rule("6.7", "PING on a stream", frame(PING, 0, 1, bytes(8)), Ends(P)),
    Rule("6.7", "PING of seven bytes", frame(PING, 0, 0, bytes(7)), Ends(S)),
    Rule("6.7", "an answer that nobody asked for", frame(PING, ACK, 0, b"whatever"), IGNORED),
    Rule("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), Ends(P)),
    Rule("6.8", "GOAWAY of seven bytes", frame(GOAWAY, 0, 0, bytes(7)), Ends(S)),
    # WINDOW_UPDATE.
    Rule("6.9", "WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, bytes(3)), Ends(S)),
    Rule("6.9", "nothing more on the connection", frame(WINDOW_UPDATE, 0, 0, bytes(4)), Ends(P)),
    Rule("6.9", "nothing more on a stream", frame(WINDOW_UPDATE, 0, 1, bytes(4)), Resets(P)),
    Rule("6.9.1", "a connection's window beyond 2^31 - 1", frame(WINDOW_UPDATE, 0, 0, LARGEST.to_bytes(4)), Ends(F)),
    Rule("6.9.1", "a stream's window beyond 2^31 - 1", frame(WINDOW_UPDATE, 0, 1, LARGEST.to_bytes(4)), Resets(F)),
    Rule("6.9", "the reserved bit of an increment", frame(WINDOW_UPDATE, 0, 1, (2**31 + 1).to_bytes(4)), IGNORED),
    # Messages of HTTP.
    Rule("8.1", "DATA before headers", frame(DATA, 0, 1, MESSAGE), Resets(P)),
    Rule("8.1", "trailers that do not end the stream", answered(headers(("x", "y"))), Resets(P)),
    Rule("8.1", "an informational answer first", headers((":status", "103"), ("link", "x")), IGNORED),
    Rule("8.1", "an informational answer that ends the stream", headers((":status", "100"), end=True), Resets(P)),
    Rule("8.6", "a switch of protocols", headers((":status", "101")), Resets(P)),
    Rule("8.2.1", "a name in capitals", headers(OK, ("X-Loud", "y")), Resets(P)),
    Rule("8.2.1", "a name with a space", headers(OK, ("x y", "z")), Resets(P)),
    Rule("8.2.1", "an empty name", headers(OK, ("", "z")), Resets(P)),
    Rule("8.2.1", "a value with a line feed", headers(OK, ("x", "y\nz: w")), Resets(P)),
    Rule("8.2.1", "a value with NUL", headers(OK, ("x", "y\0z")), Resets(P)),
    Rule("8.2.2", "a field of HTTP/1", headers(OK, ("connection", "close")), Resets(P)),
    Rule("8.2.2", "a transfer encoding", headers(OK, ("transfer-encoding", "chunked")), Resets(P)),
    Rule("8.3", "no :status", headers(("content-type", "application/grpc")), Resets(P)),
    Rule("8.3", "no headers at all", block(b""), Resets(P)),
    Rule("8.3", ":status twice", headers(OK, OK), Resets(P)),
    Rule("8.3", ":status behind a field", headers(("content-type", "application/grpc"), OK), Resets(P)),
    Rule("8.3", "the pseudo-header of a request", headers(OK, (":path", "/")), Resets(P)),
    Rule("8.3", "a :status that is no number", headers((":status", "two")), Resets(P)),
    Rule("8.3", "a :status of 5,000 digits", headers((":status", "2" * 5_000)), Resets(P)),
    Rule("8.3", ":status in trailers", answered(headers(OK, end=True)), Resets(P)),
    # Floods.
    Rule("10.5", "a flood of PING", times(FLOOD, PING, 0, 0, bytes(8)), Ends(CALM)),
    Rule("10.5", "a flood of SETTINGS", times(FLOOD, SETTINGS, 0, 0), Ends(CALM)),
    Rule("10.5", "a flood of settings in few frames", times(2, SETTINGS, 0, 0, bytes([0, 9, 0, 0, 0, 0]) * 9_000), Ends(CALM)),
    Rule("10.5", "a flood of PRIORITY", times(FLOOD, PRIORITY, 0, 1, bytes(5)), Ends(CALM)),
    Rule("10.5", "a flood of what nobody knows", times(FLOOD, 0x77, 0, 0), Ends(CALM)),
    Rule("10.5", "a flood of empty DATA", answered(times(FLOOD, DATA, 0, 1)), Ends(CALM)),
    Rule("10.5", "a flood of updates", times(FLOOD, WINDOW_UPDATE, 0, 0, bytes([0, 0, 0, 1])), Ends(CALM)),
    Rule("10.5", "a flood of informational answers", times(FLOOD, HEADERS, END_HEADERS, 1, b"\x48\x03103"), Ends(CALM)),
    Rule("10.5", "a flood of resets of one stream", times(FLOOD, RST_STREAM, 0, 1, bytes(4)), Ends(CALM)),
]  # fmt: skip
