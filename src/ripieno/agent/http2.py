"""One HTTP/2 connection, as far as streaming gRPC calls of an agent need it (RFC 9113).

``grpc.aio`` takes 0.9 ms of processor time for one ``Process`` call of eight messages, this
takes a quarter of it (``benchmarks.floors``), and that is most of what an attempt of a worker
without our SDK costs the agent. The library h2 would do at half the gain, but gives a
connection up as soon as its peer says GOAWAY, with which servers begin to drain: the call that
is under way then has to end in peace. Header compression is the library hpack's.

Flow control: a stream may bring ``STREAM_WINDOW_BYTES`` more than was read of it; of the
connection's own window as much is always given back, since there is one stream at a time.
"""

from __future__ import annotations

import asyncio
import struct
from functools import partial
from typing import Protocol, cast

from hpack import Decoder, HPACKError

from ripieno.domain.addresses import UnixAddress, parse_address

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = struct.Struct(">HBBBL")  # length (16 + 8 bits), kind, flags, stream
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    0x0, 0x1, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9,
)  # fmt: skip
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 0x2, 0x4, 0x5

REFUSED_STREAM, CANCEL = 0x7, 0x8
_NO_ERROR, _PROTOCOL_ERROR = 0x0, 0x1

STREAM_WINDOW_BYTES = 1024 * 1024
_CONNECTION_WINDOW_BYTES = 4 * STREAM_WINDOW_BYTES
#: Before settings say otherwise.
_DEFAULT_WINDOW_BYTES, _DEFAULT_FRAME_BYTES = 65_535, 16_384
#: Longest frame that we take: a few to a read of the socket, so that little is copied twice.
_LONGEST_FRAME_BYTES = 64 * 1024
_LARGEST_HEADERS_BYTES = 64 * 1024
_LAST_STREAM = 2**31 - 1
#: A host that vanished without a word is noticed within the lease of ten seconds: asked when nothing was heard
#: of it for so long, it has so long to answer.
KEEPALIVE_S, ANSWER_S = 5.0, 5.0


class ConnectionLostError(OSError):
    """The connection is gone, or its peer does not speak HTTP/2."""


class Reader(Protocol):
    """Hears of one stream, in the course of ``data_received``."""

    def headers_received(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Headers, first or last ones."""

    def data_received(self, data: bytes) -> None:
        """More of the body."""

    def stream_ended(self) -> None:
        """The peer says no more."""

    def stream_reset(self, error_code: int) -> None:
        """The peer gave the stream up."""

    def connection_lost(self, reason: str, *, refused: bool) -> None:
        """So is the stream; ``refused``: the peer never looked at it."""

    def may_write(self) -> None:
        """There may be room to write again."""


class Stream:
    """One request and its answer."""

    __slots__ = ("_connection", "_consumed", "closed", "half_closed", "number", "reader", "window")

    def __init__(self, connection: Connection, number: int, window: int, reader: Reader) -> None:
        self.number = number
        self.window = window
        self.reader = reader
        self.closed = self.half_closed = False
        self._connection = connection
        self._consumed = 0

    @property
    def room(self) -> int:
        """How much may be written now."""
        connection = self._connection
        if connection.paused:
            return 0
        return min(self.window, connection.window, connection.longest_frame)

    def write(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """One frame of data, not longer than ``room``; goes out with ``flush``."""
        size = len(data)
        self.half_closed = end
        self.window -= size
        self._connection.window -= size
        self._connection.put(_DATA, _END_STREAM if end else 0, self.number, data)

    def flush(self) -> None:
        """Send what was written."""
        self._connection.flush()

    def consumed(self, size: int) -> None:
        """So much of what was received is out of the way."""
        self._consumed += size
        if self._consumed >= STREAM_WINDOW_BYTES // 2 and not self.closed:
            self._connection.put(_WINDOW_UPDATE, 0, self.number, self._consumed.to_bytes(4))
            self._connection.flush()
            self._consumed = 0

    def reset(self, error_code: int) -> None:
        """Give it up; nothing more is heard of it."""
        if not self.closed:
            self._connection.put(_RST_STREAM, 0, self.number, error_code.to_bytes(4))
            self._connection.flush()
            self._connection.forget(self)


class Connection(asyncio.Protocol):
    """The client's end of one connection. Belongs to the event loop's thread.

    Args:
        keepalive: Notice a peer that vanished without a word, by asking it now and then.

    Attributes:
        window: What may be sent, of all streams together.
        longest_frame: That the peer takes.
        paused: The socket takes nothing for now.
    """

    def __init__(self, *, keepalive: bool = False) -> None:
        self.window = _DEFAULT_WINDOW_BYTES
        self.longest_frame = _DEFAULT_FRAME_BYTES
        self.paused = False
        self._stream_window = _DEFAULT_WINDOW_BYTES
        self._streams: dict[int, Stream] = {}
        self._next_number = 1
        self._decoder = Decoder(max_header_list_size=_LARGEST_HEADERS_BYTES)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes | memoryview] = []
        self._rest = b""
        self._received = 0
        self._going_away = False
        self._keepalive = keepalive
        self._heard_at = 0.0
        self._pinged = False
        self._timer: asyncio.TimerHandle | None = None
        #: A block of headers that is not complete: its stream, flags and bytes.
        self._block: tuple[int, int, bytes] | None = None

    @property
    def usable(self) -> bool:
        """Whether a new stream may be opened."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._going_away

    def open(self, header_block: bytes, reader: Reader) -> Stream:
        """A new stream; the headers go out with the first ``flush``.

        Args:
            header_block: Encoded without reference to the dynamic table.
        """
        number = self._next_number
        self._next_number += 2
        stream = self._streams[number] = Stream(self, number, self._stream_window, reader)
        self.put(_HEADERS, _END_HEADERS, number, header_block)
        if self._next_number > _LAST_STREAM:
            self._going_away = True
        return stream

    def close(self) -> None:
        """End the connection, and with it what is open."""
        if self._transport is not None:
            self._transport.close()

    # ------------------------------------------------------------------ for streams

    def put(self, kind: int, flags: int, stream: int, payload: bytes | memoryview) -> None:
        """One more frame."""
        size = len(payload)
        self._out.append(_HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream))
        if size:
            self._out.append(payload)

    def flush(self) -> None:
        """Send all frames."""
        if self._out and self._transport is not None:
            out, self._out = self._out, []
            self._transport.write(b"".join(out))

    def forget(self, stream: Stream) -> None:
        """A stream is over."""
        stream.closed = True
        self._streams.pop(stream.number, None)
        if self._going_away and not self._streams:
            self.close()

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        settings = (
            (_ENABLE_PUSH, 0),
            (_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (_MAX_FRAME_SIZE, _LONGEST_FRAME_BYTES),
        )
        self._out.append(_PREFACE)
        self.put(_SETTINGS, 0, 0, b"".join(struct.pack(">HL", *setting) for setting in settings))
        self.put(_WINDOW_UPDATE, 0, 0, (_CONNECTION_WINDOW_BYTES - _DEFAULT_WINDOW_BYTES).to_bytes(4))
        self.flush()
        if self._keepalive:
            self._look_again(KEEPALIVE_S)

    def connection_lost(self, error: Exception | None) -> None:
        """All streams are over."""
        if self._timer is not None:
            self._timer.cancel()
        self._lose(f"the connection was lost: {error}" if error else "the connection was closed")

    def pause_writing(self) -> None:
        """The socket is behind."""
        self.paused = True

    def resume_writing(self) -> None:
        """It caught up."""
        self.paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Take in frames."""
        self._pinged = False
        if self._keepalive:
            self._heard_at = asyncio.get_running_loop().time()
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        try:
            while end - at >= _HEAD.size:
                high, low, kind, flags, number = _HEAD.unpack_from(data, at)
                size = high << 8 | low
                if size > _LONGEST_FRAME_BYTES:
                    raise ConnectionLostError(f"a frame of {size} bytes")
                begin = at + _HEAD.size
                if end - begin < size:
                    break
                at = begin + size
                self._take(kind, flags, number & _LAST_STREAM, data[begin:at])
        except (ConnectionLostError, HPACKError, struct.error, IndexError) as error:
            self.put(_GOAWAY, 0, 0, struct.pack(">LL", 0, _PROTOCOL_ERROR))
            self.flush()
            self._lose(f"the worker does not speak HTTP/2: {error}")
            self.close()
            return
        self._rest = data[at:] if at < end else b""
        self.flush()

    def _look_again(self, after_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(after_s, self._look_after)

    def _look_after(self) -> None:
        silent_s = asyncio.get_running_loop().time() - self._heard_at
        if silent_s < KEEPALIVE_S:
            self._look_again(KEEPALIVE_S - silent_s)
        elif self._pinged:
            self._lose(f"nothing was heard for {silent_s:.0f} s")
            assert self._transport is not None
            self._transport.abort()
        else:
            self._pinged = True
            self.put(_PING, 0, 0, bytes(8))
            self.flush()
            self._look_again(ANSWER_S)

    # ------------------------------------------------------------------ frames

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and kind != _CONTINUATION:
            raise ConnectionLostError("headers that do not end")
        if kind == _DATA:
            self._data(flags, number, payload)
        elif kind == _HEADERS:
            payload = _without_padding(flags, payload)
            self._headers(number, flags, payload[5:] if flags & _PRIORITY else payload)
        elif kind == _CONTINUATION:
            if self._block is None or self._block[0] != number:
                raise ConnectionLostError("a continuation of nothing")
            _, first_flags, begun = self._block
            self._headers(number, first_flags & ~_END_HEADERS | flags & _END_HEADERS, begun + payload)
        elif kind == _WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._settings(payload)
        elif kind == _PING:
            if not flags & _ACK:
                self.put(_PING, _ACK, 0, payload)
        elif kind == _RST_STREAM:
            self._reset(number, *struct.unpack(">L", payload))
        elif kind == _GOAWAY:
            self._go_away(struct.unpack_from(">L", payload)[0] & _LAST_STREAM)
        elif kind == _PUSH_PROMISE:
            raise ConnectionLostError("a push, which was declined")

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received >= _CONNECTION_WINDOW_BYTES // 2:
            self.put(_WINDOW_UPDATE, 0, 0, self._received.to_bytes(4))
            self._received = 0
        stream = self._streams.get(number)
        if stream is None:
            return  # of a stream that we gave up
        data = _without_padding(flags, payload)
        if len(data) < len(payload):
            stream.consumed(len(payload) - len(data))
        if data:
            stream.reader.data_received(data)
        if flags & _END_STREAM:
            self._end(stream)

    def _headers(self, number: int, flags: int, block: bytes) -> None:
        if not flags & _END_HEADERS:
            if len(block) > _LARGEST_HEADERS_BYTES:
                raise ConnectionLostError(f"more than {_LARGEST_HEADERS_BYTES} bytes of headers")
            self._block = (number, flags, block)
            return
        self._block = None
        # Whoever they are for: they change its table.
        headers = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        stream = self._streams.get(number)
        if stream is not None:
            stream.reader.headers_received(headers)
            if flags & _END_STREAM:
                self._end(stream)

    def _window_update(self, number: int, payload: bytes) -> None:
        increment = int.from_bytes(payload) & _LAST_STREAM
        if not number:
            self.window += increment
        elif (stream := self._streams.get(number)) is not None:
            stream.window += increment
        self._wake()

    def _settings(self, payload: bytes) -> None:
        for setting, value in struct.iter_unpack(">HL", payload):
            if setting == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif setting == _MAX_FRAME_SIZE:
                self.longest_frame = value
        self.put(_SETTINGS, _ACK, 0, b"")
        self._wake()

    def _reset(self, number: int, error_code: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            self.forget(stream)
            stream.reader.stream_reset(error_code)

    def _go_away(self, last: int) -> None:
        """The peer takes no new streams; what it has begun it ends."""
        self._going_away = True
        for stream in list(self._streams.values()):
            if stream.number > last:
                self.forget(stream)
                stream.reader.connection_lost("the worker is going away", refused=True)
        if not self._streams:
            self.close()

    # ------------------------------------------------------------------ ends

    def _end(self, stream: Stream) -> None:
        if not stream.half_closed:
            self.put(_RST_STREAM, 0, stream.number, _NO_ERROR.to_bytes(4))  # we have nothing more to say either
        self.forget(stream)
        stream.reader.stream_ended()

    def _lose(self, reason: str) -> None:
        self._going_away = True
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.closed = True
            stream.reader.connection_lost(reason, refused=False)

    def _wake(self) -> None:
        for stream in list(self._streams.values()):
            stream.reader.may_write()


async def connect(address: str, *, keepalive: bool = False) -> Connection:
    """A connection to ``unix:/path`` or ``HOST:PORT``.

    Raises:
        OSError: nobody listens there.
    """
    loop = asyncio.get_running_loop()
    made = partial(Connection, keepalive=keepalive)
    where = parse_address("address", address)
    if isinstance(where, UnixAddress):
        _, connection = await loop.create_unix_connection(made, where.path)
    else:
        _, connection = await loop.create_connection(made, where.host, where.port)
    return connection


def _without_padding(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionLostError("more padding than there is")
    return payload[1 : len(payload) - padding]
