"""gRPC's encoding on an HTTP/2 stream: request headers, message framing, and the status of a call.

The rules are gRPC over HTTP/2 (``PROTOCOL-HTTP2.md``) and the mapping of HTTP's status codes
(``http-grpc-status-mapping.md``), both of the gRPC project.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import grpc
from hpack import Encoder

from ripieno.agent.transport import frames
from ripieno.agent.transport.frames import quote
from ripieno.domain.texts import reason

#: Longest message taken, which is held whole in memory: 64 MiB of a user's data and its encoding.
LARGEST_MESSAGE_BYTES = 65 * 1024 * 1024

_PREFIX_BYTES = 5
_OK = 200
#: Most digits of a valid ``grpc-status``.
_STATUS_DIGITS = 2
_CODES = {code.value[0]: code for code in grpc.StatusCode}
#: gRPC code for an HTTP status that comes without a gRPC status; any other is UNKNOWN.
_HTTP_CODES = {
    400: grpc.StatusCode.INTERNAL,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.UNAVAILABLE,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}
#: gRPC code for the error code of a stream reset; any other is INTERNAL.
_RESET_CODES = {
    frames.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    frames.CANCEL: grpc.StatusCode.CANCELLED,
    frames.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
    frames.INADEQUATE_SECURITY: grpc.StatusCode.PERMISSION_DENIED,
}


class Status(NamedTuple):
    """The status with which a call ended."""

    code: grpc.StatusCode
    details: str


class BrokenMessageError(Exception):
    """The peer sent a message that cannot be taken; the call ends with ``status``."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.status = Status(code, details)


class RequestHeaders(NamedTuple):
    """The encoded request headers of a method.

    Attributes:
        block: Encoded without reference to the dynamic table, so it is the same for all calls of a method.
        size_bytes: Size of the header list by HTTP/2's measure (RFC 9113, section 6.5.2).
    """

    block: bytes
    size_bytes: int


@cache
def request_headers(method: bytes) -> RequestHeaders:
    """Encode the request headers for calls of ``/package.Service/Method``."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method),
        # Fixed, because over a unix socket the authority would be the path, which some servers refuse.
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity"),
        (b"user-agent", b"ripieno-agent"),
    ]
    # Marked as sensitive, because no sender or receiver indexes sensitive headers.
    block = Encoder().encode([(name, value, True) for name, value in headers], huffman=False)
    return RequestHeaders(block, sum(len(name) + len(value) + 32 for name, value in headers))


class MessageCutter:
    """Cuts a stream's bytes into messages, copying each message once however many pieces it comes in.

    Attributes:
        within: Whether a message has begun and not ended.
    """

    __slots__ = ("_held", "_wanted")

    def __init__(self) -> None:
        #: The bytes of an incomplete message, and how many are needed before parsing goes on.
        self._held = bytearray()
        self._wanted = _PREFIX_BYTES

    @property
    def within(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes and return the messages that they complete.

        Raises:
            BrokenMessageError: if a message is compressed, or longer than ``LARGEST_MESSAGE_BYTES``. Its
                prefix tells, so nothing of it is held.
        """
        held = self._held
        if held:
            held += data
            if len(held) < self._wanted:
                return []
            data = bytes(held)
            held.clear()
        messages = []
        at, end, wanted = 0, len(data), _PREFIX_BYTES
        while end - at >= _PREFIX_BYTES:
            begin = at + _PREFIX_BYTES
            size = int.from_bytes(data[at + 1 : begin])
            if data[at] or size > LARGEST_MESSAGE_BYTES:
                raise _broken(data[at], size)
            if end - begin < size:
                wanted = _PREFIX_BYTES + size
                break
            at = begin + size
            messages.append(data[begin:at])
        if at < end:
            held += data[at:]
            self._wanted = wanted
        return messages


def prefix(size: int) -> bytes:
    """Build the prefix of a message: a flag that it is not compressed, and its length of ``size`` bytes."""
    return size.to_bytes(_PREFIX_BYTES)


def status_of_answer(http_status: int, fields: Mapping[bytes, bytes]) -> Status | None:
    """Return the status that a response's first headers mean for a call; None if they are those of gRPC."""
    kind = fields.get(b"content-type", b"")
    if http_status != _OK:
        code = _HTTP_CODES.get(http_status, grpc.StatusCode.UNKNOWN)
        return Status(code, f"HTTP status {http_status}, content-type {quote(kind)}: no answer of gRPC")
    if kind.startswith(b"application/grpc") and kind[16:17] in (b"", b"+", b";"):
        return None
    return Status(grpc.StatusCode.UNKNOWN, f"content-type {quote(kind)}: no answer of gRPC")


def status_of_trailers(fields: Mapping[bytes, bytes]) -> Status | None:
    """Return the status that trailers carry; None without ``grpc-status``."""
    number = fields.get(b"grpc-status")
    if number is None:
        return None
    details = reason(unquote_to_bytes(fields.get(b"grpc-message", b"")).decode("utf-8", "replace"))
    if len(number) <= _STATUS_DIGITS and number.isdigit() and (code := _CODES.get(int(number))) is not None:
        return Status(code, details)
    return Status(grpc.StatusCode.UNKNOWN, f"grpc-status {quote(number)}: {details}")


def status_of_reset(error_code: int) -> Status:
    """Return the status of a call whose stream was reset with ``error_code``."""
    code = _RESET_CODES.get(error_code, grpc.StatusCode.INTERNAL)
    return Status(code, f"the worker reset the call ({frames.name_of_error(error_code)})")


def _broken(compressed: int, size: int) -> BrokenMessageError:
    if compressed == 1:
        return BrokenMessageError(
            grpc.StatusCode.INTERNAL, "the peer compressed a message, which it was asked not to do"
        )
    if compressed:
        return BrokenMessageError(
            grpc.StatusCode.INTERNAL, f"a message that begins with {compressed:#04x}, which no message of gRPC does"
        )
    return BrokenMessageError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message of {size} bytes; {LARGEST_MESSAGE_BYTES} are taken at most"
    )
