"""HTTP/2 frames as bytes: constants, parsing and building (RFC 9113, sections 4, 6 and 7).

What a frame means for a connection is decided in ``receiving`` and ``streams``, not here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
KINDS = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
    "CONTINUATION",
)  # fmt: skip

#: Flags of frames. Several share a bit: which flags a frame has depends on its kind.
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

ERRORS = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
(
    NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
    REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY,
    HTTP_1_1_REQUIRED,
) = range(14)  # fmt: skip

#: Window and longest frame that hold until SETTINGS change them.
DEFAULT_WINDOW_BYTES, DEFAULT_FRAME_BYTES = 65_535, 16_384
#: Largest MAX_FRAME_SIZE that a peer may ask for.
LARGEST_FRAME_BYTES = 2**24 - 1
#: Largest flow-control window, and largest stream number.
LARGEST_WINDOW_BYTES = LAST_STREAM = 2**31 - 1

HEAD_BYTES = 9
_HEAD = struct.Struct(">HBBBL")  # length (16 + 8 bits), kind, flags, stream
_SETTING = struct.Struct(">HL")
#: How many of a peer's bytes an error quotes.
_QUOTED_BYTES = 80

#: A frame: kind, flags, stream number, payload.
Frame = tuple[int, int, int, bytes]


class Violation(Exception):  # noqa: N818 - named as the RFC speaks of it: a peer's fault, not ours
    """The peer broke a rule of HTTP/2, and the connection has to end.

    Attributes:
        code: Error code of the GOAWAY frame that tells the peer.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamViolation(Exception):  # noqa: N818 - see Violation
    """The peer broke a rule that concerns one stream: the stream has to end, its connection goes on.

    Attributes:
        number: Number of the stream.
        code: Error code of the RST_STREAM frame that tells the peer.
    """

    def __init__(self, number: int, code: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.code = code


class FrameCutter:
    """Cuts received bytes into frames, however they are split into reads.

    Args:
        longest: Largest payload in bytes that our settings allow the peer.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        #: The bytes of an incomplete frame, and how many are needed before parsing goes on.
        self._rest = bytearray()
        self._wanted = HEAD_BYTES

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add received bytes and yield the frames that they complete, in order.

        Raises:
            Violation: if a frame is longer than agreed, or the peer answers in HTTP/1.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        wanted = HEAD_BYTES
        while end - at >= HEAD_BYTES:
            high, low, kind, flags, number = _HEAD.unpack_from(data, at)
            size = high << 8 | low
            if size > self._longest:
                raise _too_long(size, self._longest, data[at:])
            begin = at + HEAD_BYTES
            if end - begin < size:
                wanted = HEAD_BYTES + size
                break
            at = begin + size
            yield kind, flags, number & LAST_STREAM, data[begin:at]
        if at < end:
            self._rest += data[at:]
            self._wanted = wanted


def frame_head(size: int, kind: int, flags: int, stream: int) -> bytes:
    """Build the nine-byte header of a frame with ``size`` bytes of payload."""
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream)


def pack_settings(*settings: tuple[int, int]) -> bytes:
    """Build the payload of a SETTINGS frame from pairs of setting and value."""
    return b"".join(_SETTING.pack(*setting) for setting in settings)


def unpack_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Parse the payload of a SETTINGS frame into pairs of setting and value, in order.

    Raises:
        Violation: if the payload is not made of whole settings.
    """
    if len(payload) % _SETTING.size:
        raise Violation(FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes, which is no multiple of {_SETTING.size}")
    return _SETTING.iter_unpack(payload)


def without_padding(flags: int, payload: bytes) -> bytes:
    """Return the payload of a DATA or HEADERS frame without its padding.

    Raises:
        Violation: if the padding is longer than the payload, or its length is missing.
    """
    if not flags & PADDED:
        return payload
    if not payload:
        raise Violation(FRAME_SIZE_ERROR, "padding without its length")
    padding = payload[0]
    if padding >= len(payload):
        raise Violation(PROTOCOL_ERROR, f"{padding} bytes of padding in a frame of {len(payload)}")
    return payload[1 : len(payload) - padding]


def name_of_error(code: int) -> str:
    """Return the name that the RFC gives an HTTP/2 error code."""
    return ERRORS[code] if code < len(ERRORS) else f"error {code:#x}"


def quote(data: bytes) -> str:
    """Return the beginning of a peer's bytes as printable ASCII."""
    shown = data[:_QUOTED_BYTES].decode("ascii", "backslashreplace")
    return ascii(shown) + ("..." if len(data) > _QUOTED_BYTES else "")


def _too_long(size: int, longest: int, data: bytes) -> Violation:
    if data.startswith(b"HTTP/1"):
        first_line = data.splitlines()[0]
        return Violation(PROTOCOL_ERROR, f"it answers in HTTP/1: {quote(first_line)}")
    return Violation(FRAME_SIZE_ERROR, f"a frame of {size} bytes, of {longest} at most")
