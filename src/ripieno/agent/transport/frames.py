"""HTTP/2 frames as bytes: names, cutting and building (RFC 9113, sections 4, 6 and 7).

Nothing here knows what a frame means for a connection; that is ``streams``.
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

#: Flags. Which of them a frame has depends on its kind.
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

#: Before settings say otherwise.
DEFAULT_WINDOW_BYTES, DEFAULT_FRAME_BYTES = 65_535, 16_384
#: No peer may ask for more to a frame.
LARGEST_FRAME_BYTES = 2**24 - 1
#: Of a window, and of a stream's number.
LARGEST_WINDOW_BYTES = LAST_STREAM = 2**31 - 1

HEAD_BYTES = 9
_HEAD = struct.Struct(">HBBBL")  # length (16 + 8 bits), kind, flags, stream
_SETTING = struct.Struct(">HL")
#: How much of what a peer sent is quoted in an error.
_QUOTED_BYTES = 80

#: Kind, flags, stream, payload.
Frame = tuple[int, int, int, bytes]


class Violation(Exception):  # noqa: N818 - named as the RFC speaks of it: a peer's fault, not ours
    """The peer broke a rule of HTTP/2: its connection has to end.

    Attributes:
        code: Of the GOAWAY frame that tells the peer.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamViolation(Exception):  # noqa: N818 - see Violation
    """The peer broke a rule that concerns one stream: the stream has to end, its connection goes on.

    Attributes:
        number: Of the stream.
        code: Of the RST_STREAM frame that tells the peer.
    """

    def __init__(self, number: int, code: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.code = code


class FrameCutter:
    """Cuts what arrives into frames, whatever pieces it arrives in.

    Args:
        longest: Bytes of payload that the peer was told to keep to.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        #: The beginning of a frame, and how much of it has to be there before it is worth another look.
        self._rest = bytearray()
        self._wanted = HEAD_BYTES

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with ``data``, in order.

        Raises:
            Violation: a frame is longer than agreed, or the peer speaks HTTP/1.
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
    """What stands before ``size`` bytes of payload."""
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream)


def pack_settings(*settings: tuple[int, int]) -> bytes:
    """The payload of a SETTINGS frame."""
    return b"".join(_SETTING.pack(*setting) for setting in settings)


def unpack_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Settings and their values, in order.

    Raises:
        Violation: the payload is not made of whole settings.
    """
    if len(payload) % _SETTING.size:
        raise Violation(FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes, which is no multiple of {_SETTING.size}")
    return _SETTING.iter_unpack(payload)


def without_padding(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS as it was before padding.

    Raises:
        Violation: more padding than there is.
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
    """An error code of HTTP/2 as the RFC spells it."""
    return ERRORS[code] if code < len(ERRORS) else f"error {code:#x}"


def quote(data: bytes) -> str:
    """The beginning of what a peer sent, safe to print."""
    shown = data[:_QUOTED_BYTES].decode("ascii", "backslashreplace")
    return ascii(shown) + ("..." if len(data) > _QUOTED_BYTES else "")


def _too_long(size: int, longest: int, data: bytes) -> Violation:
    if data.startswith(b"HTTP/1"):
        first_line = data.splitlines()[0]
        return Violation(PROTOCOL_ERROR, f"it answers in HTTP/1: {quote(first_line)}")
    return Violation(FRAME_SIZE_ERROR, f"a frame of {size} bytes, of {longest} at most")
