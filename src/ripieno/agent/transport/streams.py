"""The streams of one HTTP/2 connection, seen from the client: what is open, what is sent, what may be sent (RFC 9113).

What an agent's streaming calls need is here: requests with a body of any length, answers, and
everything a peer may do to a connection meanwhile. No I/O: ``receiving`` takes in what the peer says and
calls this; bytes for the peer, and calls of readers, come out.

* **Windows.** A stream may bring ``STREAM_WINDOW_BYTES`` more than was read of it, which bounds the
  memory that a call takes. Of the connection's window as much is always given back: readers
  wait for each other nowhere. A peer that sends more than it may breaks a rule.
* **Calm.** Frames that bring nothing (settings, pings, updates, what belongs to closed streams) are
  taken up to ``LARGEST_CHATTER`` between two pieces of news or two ticks of the clock.
* Our own headers never refer to the peer's dynamic table, whose size is of no interest then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ripieno.agent.transport import frames
from ripieno.agent.transport.frames import (
    StreamViolation,
    Violation,
    frame_head,
    name_of_error,
    pack_settings,
)
from ripieno.agent.transport.header_rules import Headers
from ripieno.agent.transport.windows import ReceiveWindow

STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 4 * STREAM_WINDOW_BYTES
#: Longest frame that we take: a few to a read of the socket, so that little is copied twice.
LONGEST_FRAME_BYTES = 64 * 1024
#: Of an answer's headers, encoded as well as decoded.
LARGEST_HEADERS_BYTES = 64 * 1024
#: Frames that bring nothing, in a row.
LARGEST_CHATTER = 10_000
#: Streams that were given up while their peer may still speak of them.
MOST_REMEMBERED = 1_000
#: So much is sent at once; a writer of more waits for the socket.
PIECE_BYTES = 256 * 1024

#: An encoder says with this that it uses no dynamic table.
_NO_TABLE = b"\x20"


class Reader(Protocol):
    """Hears of one stream. Its methods are called while bytes of the peer are taken in."""

    def headers_received(self, status: int, headers: Headers, *, end: bool) -> None:
        """Headers of the answer, or its trailers.

        Args:
            status: Of HTTP, from the first headers; 0 for trailers.
            end: Nothing follows.
        """

    def data_received(self, data: bytes) -> None:
        """More of the body."""

    def stream_ended(self) -> None:
        """The peer says no more."""

    def stream_reset(self, error_code: int) -> None:
        """The peer gave the stream up."""

    def stream_broken(self, reason: str) -> None:
        """The peer broke a rule in this stream, which was given up for that."""

    def connection_lost(self, reason: str, *, refused: bool) -> None:
        """The connection is gone and the stream with it; ``refused``: the peer never looked at it."""

    def may_write(self) -> None:
        """There may be room to write again."""


class Stream:
    """One request and its answer.

    Attributes:
        window: Bytes that may be sent on it.
        closed: Nothing more is sent on it, and nothing heard.
        half_closed: We have said that we send no more.
    """

    __slots__ = ("_streams", "answered", "closed", "half_closed", "number", "reader", "receiving", "window")

    def __init__(self, streams: Streams, number: int, window: int, reader: Reader) -> None:
        self.number = number
        self.window = window
        self.reader = reader
        self.receiving = ReceiveWindow(STREAM_WINDOW_BYTES)
        self.answered = self.closed = self.half_closed = False
        self._streams = streams

    @property
    def room(self) -> int:
        """How many bytes may be written now."""
        streams = self._streams
        if streams.paused or self.closed:
            return 0
        return min(self.window, streams.window, streams.longest_frame)

    def write(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Put out one frame of data, not longer than ``room``; it is sent with ``flush`` at the latest."""
        size = len(data)
        streams = self._streams
        self.half_closed = end
        self.window -= size
        streams.window -= size
        streams.put(frames.DATA, frames.END_STREAM if end else 0, self.number, data)
        streams.said_something()

    def flush(self) -> None:
        """Send what was written."""
        self._streams.flush()

    def consumed(self, size: int) -> None:
        """Give the peer room for ``size`` bytes of what was received, which are out of the way."""
        if not self.closed and (increment := self.receiving.take(size)):
            self._streams.put(frames.WINDOW_UPDATE, 0, self.number, increment.to_bytes(4))
            self._streams.flush()

    def reset(self, error_code: int) -> None:
        """Give the stream up; nothing more is heard of it."""
        if not self.closed:
            self._streams.give_up(self, error_code)
            self._streams.flush()


class Streams:
    """All streams of one connection, and what concerns the connection itself.

    Args:
        send: Takes bytes for the peer.
        finish: Called when the peer takes no new streams and the last one is over.

    Attributes:
        window: Bytes that may be sent, of all streams together.
        longest_frame: That the peer takes.
        paused: The socket takes nothing for now; what is put out waits here.
        acknowledged: The peer has taken our settings.
        ending: Why no new stream may be opened, if so.
        unsent: Frames that wait.
    """

    def __init__(self, send: Callable[[bytes], None], finish: Callable[[], None]) -> None:
        self.window = frames.DEFAULT_WINDOW_BYTES
        self.longest_frame = frames.DEFAULT_FRAME_BYTES
        self.paused = False
        self.acknowledged = False
        self.ending: str | None = None
        self.unsent = 0
        self._unsent_bytes = 0
        self._send = send
        self._finish = finish
        self._out: list[bytes | memoryview] = []
        self._open: dict[int, Stream] = {}
        #: Streams that were given up, and whether the peer did it.
        self._given_up: dict[int, bool] = {}
        self._next_number = 1
        self._stream_window = frames.DEFAULT_WINDOW_BYTES
        self._most_streams: int | None = None
        self._largest_headers: int | None = None
        #: Frames that brought nothing since there was news.
        self._chatter = 0

    # ------------------------------------------------------------------ to the peer

    def greet(self) -> None:
        """Introduce ourselves: the first thing that is sent."""
        settings = pack_settings(
            (frames.ENABLE_PUSH, 0),
            (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (frames.MAX_FRAME_SIZE, LONGEST_FRAME_BYTES),
            (frames.MAX_HEADER_LIST_SIZE, LARGEST_HEADERS_BYTES),
        )
        self._out.append(frames.PREFACE)
        self.put(frames.SETTINGS, 0, 0, settings)
        more = CONNECTION_WINDOW_BYTES - frames.DEFAULT_WINDOW_BYTES
        self.put(frames.WINDOW_UPDATE, 0, 0, more.to_bytes(4))
        self.flush()

    def open(self, header_block: bytes, headers_bytes: int, reader: Reader) -> Stream:
        """Begin a request; its headers go out with the first ``flush``.

        A stream that the peer would not take is closed at once, and its reader told that it was refused.

        Args:
            header_block: Encoded without reference to the dynamic table.
            headers_bytes: What the headers count by the measure of section 6.5.2.
        """
        number = self._next_number
        stream = Stream(self, number, self._stream_window, reader)
        refusal = self._refusal(headers_bytes)
        if refusal is not None:
            stream.closed = True
            reader.connection_lost(refusal, refused=True)
            return stream
        self._open[number] = stream
        self._next_number += 2
        # Whatever size of a table the peer has been asked for or asks for: none is used. Said once.
        self.put(frames.HEADERS, frames.END_HEADERS, number, _NO_TABLE + header_block if number == 1 else header_block)
        self.said_something()
        if self._next_number > frames.LAST_STREAM:
            self.ending = "all numbers of streams are used up"
        return stream

    def _refusal(self, headers_bytes: int) -> str | None:
        if self.ending is not None:
            return self.ending
        if self._most_streams is not None and len(self._open) >= self._most_streams:
            return f"the peer takes {self._most_streams} streams at a time"
        if self._largest_headers is not None and headers_bytes > self._largest_headers:
            return f"the peer takes headers of {self._largest_headers} bytes, ours are {headers_bytes}"
        return None

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.put(frames.PING, 0, 0, bytes(8))
        self.flush()

    def put(self, kind: int, flags: int, stream: int, payload: bytes | memoryview) -> None:
        """Put out one frame."""
        size = len(payload)
        self._out.append(frame_head(size, kind, flags, stream))
        if size:
            self._out.append(payload)
        self.unsent += 1
        self._unsent_bytes += size
        if self._unsent_bytes >= PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was put out, unless the socket takes nothing."""
        if self._out and not self.paused:
            out, self._out = self._out, []
            self.unsent = self._unsent_bytes = 0
            self._send(b"".join(out))

    def said_something(self) -> None:
        """There was news, or time went by: the peer may chatter again."""
        self._chatter = 0

    def give_up(self, stream: Stream, error_code: int) -> None:
        """Tell the peer that a stream is over, and forget it."""
        self.put(frames.RST_STREAM, 0, stream.number, error_code.to_bytes(4))
        self.forget(stream)
        self.remember(stream.number, by_peer=False)

    def go_away(self, error_code: int, reason: str) -> None:
        """Tell the peer why its connection ends, whether it listens or not."""
        text = reason.encode("utf-8", "replace")[:200]
        self.put(frames.GOAWAY, 0, 0, bytes(4) + error_code.to_bytes(4) + text)
        self.paused = False
        self.flush()

    # ------------------------------------------------------------------ the socket

    def resume(self) -> None:
        """The socket takes more: send what waits, and let writers go on."""
        self.paused = False
        self.flush()
        self.wake()

    def lose(self, reason: str) -> None:
        """The connection is gone, and all streams with it."""
        self.ending = self.ending or reason
        streams, self._open = self._open, {}
        for stream in streams.values():
            stream.closed = True
            stream.reader.connection_lost(reason, refused=False)

    # ------------------------------------------------------------------ what the peer says of all streams

    def chat(self, cost: int) -> None:
        """Count frames that bring nothing.

        Raises:
            Violation: there were too many in a row.
        """
        self._chatter += cost
        if self._chatter > LARGEST_CHATTER:
            raise Violation(frames.ENHANCE_YOUR_CALM, f"more than {LARGEST_CHATTER} frames that bring nothing")

    def apply(self, setting: int, value: int) -> None:
        """Keep to one of the peer's settings from now on; those that nobody knows are ignored.

        Raises:
            Violation: no peer may ask for this value.
        """
        if setting == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW_BYTES:
                raise Violation(frames.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
            for stream in self._open.values():
                stream.window += value - self._stream_window
                if stream.window > frames.LARGEST_WINDOW_BYTES:
                    raise Violation(frames.FLOW_CONTROL_ERROR, f"a window of {stream.window} bytes")
            self._stream_window = value
        elif setting == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value <= frames.LARGEST_FRAME_BYTES:
                raise Violation(frames.PROTOCOL_ERROR, f"MAX_FRAME_SIZE of {value}")
            self.longest_frame = min(value, PIECE_BYTES)
        elif setting == frames.ENABLE_PUSH:
            if value:  # a server may not even offer it
                raise Violation(frames.PROTOCOL_ERROR, f"ENABLE_PUSH of {value} from a server")
        elif setting == frames.MAX_CONCURRENT_STREAMS:
            self._most_streams = value
        elif setting == frames.MAX_HEADER_LIST_SIZE:
            self._largest_headers = value

    def leave(self, last: int, reason: str) -> None:
        """The peer takes no new streams, and has never looked at those after ``last``."""
        self.ending = reason
        for stream in self.open_streams():
            if stream.number > last:
                self.forget(stream)
                stream.reader.connection_lost(reason, refused=True)
        if not self._open:
            self._finish()

    def wake(self) -> None:
        """There may be room for every writer."""
        for stream in self.open_streams():
            stream.reader.may_write()

    # ------------------------------------------------------------------ one stream, open or not

    def open_streams(self) -> list[Stream]:
        """Those that are not over, as of now."""
        return list(self._open.values())

    def find(self, number: int) -> Stream | None:
        """A stream, if it is open."""
        return self._open.get(number)

    def known(self, what: str, number: int) -> Stream | None:
        """A stream that is or was open.

        Raises:
            Violation: there never was such a stream.
        """
        if not number % 2 or number >= self._next_number:
            raise Violation(frames.PROTOCOL_ERROR, f"{what} on stream {number}, which nobody opened")
        return self._open.get(number)

    def late(self, what: str, number: int) -> None:
        """What comes for a stream that was given up, before the peer knew of it, is of no interest."""
        self.known(what, number)
        by_peer = self._given_up.get(number)
        if by_peer is None:
            raise Violation(frames.STREAM_CLOSED, f"{what} on stream {number}, which it had ended")
        self.chat(1)
        if by_peer:
            self.put(frames.RST_STREAM, 0, number, frames.STREAM_CLOSED.to_bytes(4))

    def remember(self, number: int, *, by_peer: bool) -> None:
        """Take what still comes for a stream that was given up for what was sent before the peer knew of it."""
        self._given_up[number] = by_peer
        if len(self._given_up) > MOST_REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    # ------------------------------------------------------------------ ends

    def end(self, stream: Stream) -> None:
        """The peer has said all that it has to say on a stream."""
        if not stream.half_closed:
            # We have nothing more to say either.
            self.put(frames.RST_STREAM, 0, stream.number, frames.NO_ERROR.to_bytes(4))
        self.forget(stream)
        stream.reader.stream_ended()

    def break_off(self, violation: StreamViolation) -> None:
        """End the one stream in which the peer broke a rule."""
        stream = self._open.get(violation.number)
        if stream is None:
            return  # a frame that says nothing of a stream that is over
        self.give_up(stream, violation.code)
        stream.reader.stream_broken(f"the peer broke HTTP/2 ({name_of_error(violation.code)}): {violation}")

    def forget(self, stream: Stream) -> None:
        """Drop a stream: send nothing more on it and ignore what the peer still sends."""
        stream.closed = True
        self._open.pop(stream.number, None)
        if self.ending is not None and not self._open:
            self._finish()
