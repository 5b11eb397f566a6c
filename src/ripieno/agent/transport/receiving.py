"""Processes the frames of a peer on one HTTP/2 connection and checks them (RFC 9113, sections 4 to 6).

Frames come in; changes of ``Streams`` and calls of readers go out, without I/O. A broken rule raises
``Violation`` (the connection has to end) or ends the stream that it concerns;
``tests/unit/agent/http2_rules.py`` has the table of rules. Header compression is the library hpack's.
"""

from __future__ import annotations

from collections.abc import Callable

from hpack import Decoder, HPACKError

from ripieno.agent.transport import frames
from ripieno.agent.transport.frames import (
    FrameCutter,
    StreamViolation,
    Violation,
    name_of_error,
    unpack_settings,
    without_padding,
)
from ripieno.agent.transport.header_rules import MalformedError, check_answer, check_trailers
from ripieno.agent.transport.streams import CONNECTION_WINDOW_BYTES, LARGEST_HEADERS_BYTES, LONGEST_FRAME_BYTES, Streams
from ripieno.agent.transport.windows import ReceiveWindow

_SIZES = {frames.RST_STREAM: 4, frames.PING: 8, frames.WINDOW_UPDATE: 4}
_FIRST_FINAL_STATUS = 200


class Receiver:
    """Parses and checks one peer's frames, with the state that the rules depend on.

    Args:
        streams: The streams of the same connection, which the frames are applied to.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._cutter = FrameCutter(LONGEST_FRAME_BYTES)
        self._decoder = Decoder(max_header_list_size=LARGEST_HEADERS_BYTES)
        self._window = ReceiveWindow(CONNECTION_WINDOW_BYTES)
        self._greeted = False
        #: An incomplete block of headers: its stream number, flags and bytes.
        self._block: tuple[int, int, bytearray] | None = None

    def receive(self, data: bytes) -> None:
        """Process received bytes.

        Raises:
            Violation: if the peer broke a rule and the connection has to end.
        """
        for kind, flags, number, payload in self._cutter.feed(data):
            try:
                self._take(kind, flags, number, payload)
            except StreamViolation as violation:
                self._streams.break_off(violation)
        self._streams.flush()

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if not self._greeted:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise Violation(frames.PROTOCOL_ERROR, "it begins without SETTINGS")
            self._greeted = True
        if self._block is not None and kind != frames.CONTINUATION:
            raise Violation(frames.PROTOCOL_ERROR, "a block of headers that does not end")
        if kind == frames.DATA:
            self._data(flags, number, payload)
        elif kind == frames.HEADERS:
            self._headers(flags, number, payload)
        else:
            self._streams.chat(1)
            size = _SIZES.get(kind)
            if size is not None and len(payload) != size:
                name = frames.KINDS[kind]
                raise Violation(frames.FRAME_SIZE_ERROR, f"{name} of {len(payload)} bytes, which has {size}")
            handle = _HANDLERS.get(kind)
            if handle is not None:  # frames of unknown kinds have to be ignored
                handle(self, flags, number, payload)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        if not self._window.receive(size):
            raise Violation(frames.FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        if increment := self._window.take(size):
            self._streams.put(frames.WINDOW_UPDATE, 0, 0, increment.to_bytes(4))
        data = without_padding(flags, payload)
        stream = self._streams.find(number)
        if stream is None:
            self._streams.late("DATA", number)
            return
        if not stream.receiving.receive(size):
            raise StreamViolation(number, frames.FLOW_CONTROL_ERROR, "more data than the stream's window allows")
        if not stream.answered:
            raise StreamViolation(number, frames.PROTOCOL_ERROR, "DATA before the headers of the answer")
        if len(data) < size:
            stream.consumed(size - len(data))
        if data:
            self._streams.said_something()
            stream.reader.data_received(data)
        else:
            self._streams.chat(1)
        if flags & frames.END_STREAM and not stream.closed:
            self._streams.end(stream)

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise Violation(frames.PROTOCOL_ERROR, "HEADERS on stream 0")
        payload = without_padding(flags, payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise Violation(frames.FRAME_SIZE_ERROR, "HEADERS without the priority that they announce")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._whole_headers(flags, number, payload)
        else:
            self._block = (number, flags, bytearray(payload))

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise Violation(frames.PROTOCOL_ERROR, f"a continuation of nothing on stream {number}")
        _, first_flags, block = self._block
        block += payload
        if len(block) > LARGEST_HEADERS_BYTES:
            raise Violation(frames.ENHANCE_YOUR_CALM, f"more than {LARGEST_HEADERS_BYTES} bytes of headers")
        if flags & frames.END_HEADERS:
            self._block = None
            self._whole_headers(first_flags, number, bytes(block))

    def _whole_headers(self, flags: int, number: int, block: bytes) -> None:
        try:
            # Headers of a stream that is over are decoded too, because they change the decoder's table.
            headers = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except HPACKError as error:
            raise Violation(frames.COMPRESSION_ERROR, f"headers that cannot be read: {str(error)[:200]}") from error
        stream = self._streams.find(number)
        if stream is None:
            self._streams.late("HEADERS", number)
            return
        end = bool(flags & frames.END_STREAM)
        try:
            if stream.answered:
                check_trailers(headers)
                status = 0
            else:
                status = check_answer(headers)
                if status < _FIRST_FINAL_STATUS:
                    if end:
                        raise MalformedError(f"an answer that ends with status {status}")
                    self._streams.chat(1)
                    return
        except MalformedError as error:
            raise StreamViolation(number, frames.PROTOCOL_ERROR, str(error)) from error
        self._streams.said_something()
        was_answered, stream.answered = stream.answered, True
        stream.reader.headers_received(status, headers, end=end)
        if stream.closed:
            return
        if end:
            self._streams.end(stream)
        elif was_answered:
            raise StreamViolation(number, frames.PROTOCOL_ERROR, "trailers that do not end the stream")

    def _priority(self, _flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise Violation(frames.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise StreamViolation(number, frames.FRAME_SIZE_ERROR, f"PRIORITY of {len(payload)} bytes, which has 5")

    def _reset(self, _flags: int, number: int, payload: bytes) -> None:
        stream = self._streams.known("RST_STREAM", number)
        if stream is not None:
            self._streams.remember(number, by_peer=True)
            self._streams.forget(stream)
            stream.reader.stream_reset(int.from_bytes(payload))

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Violation(frames.PROTOCOL_ERROR, f"SETTINGS on stream {number}")
        if flags & frames.ACK:
            if payload:
                raise Violation(frames.FRAME_SIZE_ERROR, f"an acknowledgement of {len(payload)} bytes, which has none")
            self._streams.acknowledged = True
            return
        self._streams.chat(len(payload) // 6)
        for setting, value in unpack_settings(payload):
            self._streams.apply(setting, value)
        self._streams.put(frames.SETTINGS, frames.ACK, 0, b"")
        self._streams.wake()

    def _push(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise Violation(frames.PROTOCOL_ERROR, "PUSH_PROMISE, which was declined")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Violation(frames.PROTOCOL_ERROR, f"PING on stream {number}")
        if not flags & frames.ACK:
            self._streams.put(frames.PING, frames.ACK, 0, payload)

    def _go_away(self, _flags: int, number: int, payload: bytes) -> None:
        """Process GOAWAY: the peer takes no new streams, but finishes those it has begun."""
        if number:
            raise Violation(frames.PROTOCOL_ERROR, f"GOAWAY on stream {number}")
        if len(payload) < 8:
            raise Violation(frames.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes, which has 8 or more")
        last, code = int.from_bytes(payload[:4]) & frames.LAST_STREAM, int.from_bytes(payload[4:8])
        reason = "the peer is going away"
        if code != frames.NO_ERROR:
            reason += f" ({name_of_error(code)}: {frames.quote(payload[8:])})"
        self._streams.leave(last, reason)

    def _window_update(self, _flags: int, number: int, payload: bytes) -> None:
        increment = int.from_bytes(payload) & frames.LARGEST_WINDOW_BYTES
        if not number:
            self._streams.window += increment
            if not increment:
                raise Violation(frames.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            if self._streams.window > frames.LARGEST_WINDOW_BYTES:
                raise Violation(frames.FLOW_CONTROL_ERROR, f"a window of {self._streams.window} bytes")
            self._streams.wake()
        elif (stream := self._streams.known("WINDOW_UPDATE", number)) is not None:
            stream.window += increment
            if not increment:
                raise StreamViolation(number, frames.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            if stream.window > frames.LARGEST_WINDOW_BYTES:
                raise StreamViolation(number, frames.FLOW_CONTROL_ERROR, f"a window of {stream.window} bytes")
            stream.reader.may_write()


_HANDLERS: dict[int, Callable[[Receiver, int, int, bytes], None]] = {
    frames.PRIORITY: Receiver._priority,
    frames.RST_STREAM: Receiver._reset,
    frames.SETTINGS: Receiver._settings,
    frames.PUSH_PROMISE: Receiver._push,
    frames.PING: Receiver._ping,
    frames.GOAWAY: Receiver._go_away,
    frames.WINDOW_UPDATE: Receiver._window_update,
    frames.CONTINUATION: Receiver._continuation,
}
