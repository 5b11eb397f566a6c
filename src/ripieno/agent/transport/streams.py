"""The streams of one HTTP/2 connection, seen from the client: which are open, and what may be sent (RFC 9113).

It has what an agent's streaming calls need: requests with a body of any length, responses, and
everything a peer may do to a connection meanwhile. No I/O: ``receiving`` parses the peer's frames and
calls this module; bytes for the peer, and calls of readers, come out.

* **Windows.** A stream may bring ``STREAM_WINDOW_BYTES`` more than was read of it, which bounds the
  memory that a call takes. The connection's window is always given back as bytes arrive, so no
  reader waits for another. A peer that sends more than it may breaks a rule.
* **Calm.** Frames without news (settings, pings, updates, frames of closed streams) are
  taken up to ``LARGEST_CHATTER`` between two pieces of news or two ticks of the clock.
* Our own headers never refer to the peer's dynamic table, so its size does not matter.
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
#: Longest frame that we take. A few fit one read of the socket, so that little is copied twice.
LONGEST_FRAME_BYTES = 64 * 1024
#: Largest headers of a response, encoded as well as decoded.
LARGEST_HEADERS_BYTES = 64 * 1024
#: Most frames without news in a row.
LARGEST_CHATTER = 10_000
#: How many given-up streams are remembered, on which the peer may still send.
MOST_REMEMBERED = 1_000
#: Queued payload in bytes at which it is sent without waiting for ``flush``; a writer of more waits for the socket.
PIECE_BYTES = 256 * 1024

#: HPACK update that sets the size of the dynamic table to 0: our encoder uses none.
_NO_TABLE = b"\x20"


class Reader(Protocol):
    """The receiver of one stream's events. Its methods are called while received bytes are processed."""

    def headers_received(self, status: int, headers: Headers, *, end: bool) -> None:
        """The response's headers, or its trailers, arrived.

        Args:
            status: HTTP status of the first headers; 0 for trailers.
            end: Whether the stream ends with them.
        """

    def data_received(self, data: bytes) -> None:
        """A piece of the response's body arrived."""

    def stream_ended(self) -> None:
        """The peer ended the stream: nothing more arrives on it."""

    def stream_reset(self, error_code: int) -> None:
        """The peer reset the stream with an HTTP/2 error code."""

    def stream_broken(self, reason: str) -> None:
        """The peer broke a rule on this stream, which was reset for that."""

    def connection_lost(self, reason: str, *, refused: bool) -> None:
        """The stream ended with its connection, or was refused.

        Args:
            reason: Why, as text.
            refused: Whether the peer never processed the request: retrying is safe.
        """

    def may_write(self) -> None:
        """The stream may have room to write again."""


class Stream:
    """One request and its response.

    Attributes:
        window: Bytes that the peer's window for this stream lets us send.
        closed: Whether the stream is over: nothing more is sent or received on it.
        half_closed: Whether we have told the peer that we send no more.
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
        """How many bytes ``write`` may take now."""
        streams = self._streams
        if streams.paused or self.closed:
            return 0
        return min(self.window, streams.window, streams.longest_frame)

    def write(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue one DATA frame, not longer than ``room``; ``flush`` sends it at the latest."""
        size = len(data)
        streams = self._streams
        self.half_closed = end
        self.window -= size
        streams.window -= size
        streams.put(frames.DATA, frames.END_STREAM if end else 0, self.number, data)
        streams.said_something()

    def flush(self) -> None:
        """Send the frames that were queued."""
        self._streams.flush()

    def consumed(self, size: int) -> None:
        """Tell the peer that ``size`` received bytes were read, so that it may send more."""
        if not self.closed and (increment := self.receiving.take(size)):
            self._streams.put(frames.WINDOW_UPDATE, 0, self.number, increment.to_bytes(4))
            self._streams.flush()

    def reset(self, error_code: int) -> None:
        """Reset the stream; its reader is told nothing more. No-op once the stream is over."""
        if not self.closed:
            self._streams.give_up(self, error_code)
            self._streams.flush()


class Streams:
    """All streams of one connection, and the state of the connection itself.

    Args:
        send: Called with bytes for the peer.
        finish: Called when no new stream may be opened and the last one is over.

    Attributes:
        window: Bytes that all streams together may send.
        longest_frame: Largest payload of a frame that we send, at most what the peer takes.
        paused: Whether the socket's buffer is full; queued frames wait here meanwhile.
        acknowledged: Whether the peer has acknowledged our settings.
        ending: Why no new stream may be opened; None while one may.
        unsent: Number of queued frames.
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
        #: Numbers of streams that were reset, and whether the peer did it.
        self._given_up: dict[int, bool] = {}
        self._next_number = 1
        self._stream_window = frames.DEFAULT_WINDOW_BYTES
        self._most_streams: int | None = None
        self._largest_headers: int | None = None
        #: Frames without news since the last news or tick.
        self._chatter = 0

    # ------------------------------------------------------------------ to the peer

    def greet(self) -> None:
        """Send the connection preface, our settings and the connection's window."""
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
        """Begin a request; its headers are sent with the first ``flush``.

        A stream that the peer would not take is closed at once, and its reader is told that it was refused.

        Args:
            header_block: The headers, encoded without reference to the dynamic table.
            headers_bytes: Size of the header list by the measure of section 6.5.2.
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
        # No dynamic table is used, whatever size either end asks for, and the first headers say so once.
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
        """Send a PING, which the peer has to answer."""
        self.put(frames.PING, 0, 0, bytes(8))
        self.flush()

    def put(self, kind: int, flags: int, stream: int, payload: bytes | memoryview) -> None:
        """Queue one frame; it is sent at once when ``PIECE_BYTES`` of payload wait."""
        size = len(payload)
        self._out.append(frame_head(size, kind, flags, stream))
        if size:
            self._out.append(payload)
        self.unsent += 1
        self._unsent_bytes += size
        if self._unsent_bytes >= PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send the queued frames, unless the socket's buffer is full."""
        if self._out and not self.paused:
            out, self._out = self._out, []
            self.unsent = self._unsent_bytes = 0
            self._send(b"".join(out))

    def said_something(self) -> None:
        """Reset the count of frames without news: there was news, or a tick of the clock passed."""
        self._chatter = 0

    def give_up(self, stream: Stream, error_code: int) -> None:
        """Reset a stream with RST_STREAM and drop it."""
        self.put(frames.RST_STREAM, 0, stream.number, error_code.to_bytes(4))
        self.forget(stream)
        self.remember(stream.number, by_peer=False)

    def go_away(self, error_code: int, reason: str) -> None:
        """Send GOAWAY with the reason why the connection ends, even while the socket's buffer is full."""
        text = reason.encode("utf-8", "replace")[:200]
        self.put(frames.GOAWAY, 0, 0, bytes(4) + error_code.to_bytes(4) + text)
        self.paused = False
        self.flush()

    # ------------------------------------------------------------------ the socket

    def resume(self) -> None:
        """Send queued frames and wake writers: the socket's buffer has room again."""
        self.paused = False
        self.flush()
        self.wake()

    def lose(self, reason: str) -> None:
        """End all streams, because the connection is gone."""
        self.ending = self.ending or reason
        streams, self._open = self._open, {}
        for stream in streams.values():
            stream.closed = True
            stream.reader.connection_lost(reason, refused=False)

    # ------------------------------------------------------------------ what the peer says of all streams

    def chat(self, cost: int) -> None:
        """Count frames without news against ``LARGEST_CHATTER``.

        Raises:
            Violation: if there were too many in a row.
        """
        self._chatter += cost
        if self._chatter > LARGEST_CHATTER:
            raise Violation(frames.ENHANCE_YOUR_CALM, f"more than {LARGEST_CHATTER} frames that bring nothing")

    def apply(self, setting: int, value: int) -> None:
        """Apply one of the peer's settings; unknown settings are ignored.

        Raises:
            Violation: if no peer may ask for this value.
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
            if value:  # a server must not enable push
                raise Violation(frames.PROTOCOL_ERROR, f"ENABLE_PUSH of {value} from a server")
        elif setting == frames.MAX_CONCURRENT_STREAMS:
            self._most_streams = value
        elif setting == frames.MAX_HEADER_LIST_SIZE:
            self._largest_headers = value

    def leave(self, last: int, reason: str) -> None:
        """Open no more streams and end those after ``last`` as refused, which the peer never processed."""
        self.ending = reason
        for stream in self.open_streams():
            if stream.number > last:
                self.forget(stream)
                stream.reader.connection_lost(reason, refused=True)
        if not self._open:
            self._finish()

    def wake(self) -> None:
        """Tell the reader of every open stream that it may write."""
        for stream in self.open_streams():
            stream.reader.may_write()

    # ------------------------------------------------------------------ one stream, open or not

    def open_streams(self) -> list[Stream]:
        """Return a copy of the list of open streams."""
        return list(self._open.values())

    def find(self, number: int) -> Stream | None:
        """Return the stream with this number if it is open, else None."""
        return self._open.get(number)

    def known(self, what: str, number: int) -> Stream | None:
        """Return the stream with this number, or None if it is over.

        Raises:
            Violation: if there never was such a stream.
        """
        if not number % 2 or number >= self._next_number:
            raise Violation(frames.PROTOCOL_ERROR, f"{what} on stream {number}, which nobody opened")
        return self._open.get(number)

    def late(self, what: str, number: int) -> None:
        """Ignore a frame for a stream that was reset, as the peer may have sent it before it knew.

        Raises:
            Violation: if the stream never was open, or the peer had ended it itself.
        """
        self.known(what, number)
        by_peer = self._given_up.get(number)
        if by_peer is None:
            raise Violation(frames.STREAM_CLOSED, f"{what} on stream {number}, which it had ended")
        self.chat(1)
        if by_peer:
            self.put(frames.RST_STREAM, 0, number, frames.STREAM_CLOSED.to_bytes(4))

    def remember(self, number: int, *, by_peer: bool) -> None:
        """Remember that a stream was reset, so that frames that still arrive for it are tolerated."""
        self._given_up[number] = by_peer
        if len(self._given_up) > MOST_REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    # ------------------------------------------------------------------ ends

    def end(self, stream: Stream) -> None:
        """End a stream on which the peer sends no more, and tell its reader."""
        if not stream.half_closed:
            # The response is complete, so the rest of the request is not sent.
            self.put(frames.RST_STREAM, 0, stream.number, frames.NO_ERROR.to_bytes(4))
        self.forget(stream)
        stream.reader.stream_ended()

    def break_off(self, violation: StreamViolation) -> None:
        """Reset the one stream on which the peer broke a rule, and tell its reader."""
        stream = self._open.get(violation.number)
        if stream is None:
            return  # the stream is over already, so there is nothing to reset
        self.give_up(stream, violation.code)
        stream.reader.stream_broken(f"the peer broke HTTP/2 ({name_of_error(violation.code)}): {violation}")

    def forget(self, stream: Stream) -> None:
        """Drop a stream: send nothing more on it and ignore what the peer still sends."""
        stream.closed = True
        self._open.pop(stream.number, None)
        if self.ending is not None and not self._open:
            self._finish()
