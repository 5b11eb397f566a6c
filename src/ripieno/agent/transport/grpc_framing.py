"""What gRPC puts into a stream of HTTP/2: the request's headers, messages, and the status of a call.

Rules: gRPC over HTTP/2 (``PROTOCOL-HTTP2.md``) and the mapping of HTTP's status codes
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

#: Of one message, which is held whole: 64 MiB of somebody's data and what encodes it.
LARGEST_MESSAGE_BYTES = 65 * 1024 * 1024

_PREFIX_BYTES = 5
_OK = 200
#: Digits of a status that is one.
_STATUS_DIGITS = 2
_CODES = {code.value[0]: code for code in grpc.StatusCode}
#: What an HTTP status means where no gRPC status is; all else is UNKNOWN.
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
#: What a stream that was reset means; all else is INTERNAL.
_RESET_CODES = {
    frames.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    frames.CANCEL: grpc.StatusCode.CANCELLED,
    frames.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
    frames.INADEQUATE_SECURITY: grpc.StatusCode.PERMISSION_DENIED,
}


class Status(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    details: str


class BrokenMessageError(Exception):
    """A message that cannot be taken; ``status`` is what the call ends with."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.status = Status(code, details)


class RequestHeaders(NamedTuple):
    """The headers of a call, encoded.

    Attributes:
        block: Without reference to the dynamic table: the same for all calls of a method.
        size_bytes: What they count by HTTP/2's measure.
    """

    block: bytes
    size_bytes: int


@cache
def request_headers(method: bytes) -> RequestHeaders:
    """The headers of a call of ``/package.Service/Method``."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method),
        # Over a unix socket the path would be the authority, which some servers refuse.
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity"),
        (b"user-agent", b"ripieno-agent"),
    ]
    # Sensitive ones are never indexed, by whoever reads them either.
    block = Encoder().encode([(name, value, True) for name, value in headers], huffman=False)
    return RequestHeaders(block, sum(len(name) + len(value) + 32 for name, value in headers))


class MessageCutter:
    """Cuts a stream's bytes into messages, each of which is copied once however many pieces it comes in.

    Attributes:
        within: A message has begun and not ended.
    """

    __slots__ = ("_held", "_wanted")

    def __init__(self) -> None:
        #: The beginning of a message, and how much of it has to be there before it is worth another look.
        self._held = bytearray()
        self._wanted = _PREFIX_BYTES

    @property
    def within(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with ``data``.

        Raises:
            BrokenMessageError: one is compressed, or longer than any that is taken. The prefix tells: nothing
                of it is held.
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
    """What stands before a message of ``size`` bytes: that it is not compressed, and its length."""
    return size.to_bytes(_PREFIX_BYTES)


def status_of_answer(http_status: int, fields: Mapping[bytes, bytes]) -> Status | None:
    """The status that the first headers of an answer give a call, if they are not those of gRPC."""
    kind = fields.get(b"content-type", b"")
    if http_status != _OK:
        code = _HTTP_CODES.get(http_status, grpc.StatusCode.UNKNOWN)
        return Status(code, f"HTTP status {http_status}, content-type {quote(kind)}: no answer of gRPC")
    if kind.startswith(b"application/grpc") and kind[16:17] in (b"", b"+", b";"):
        return None
    return Status(grpc.StatusCode.UNKNOWN, f"content-type {quote(kind)}: no answer of gRPC")


def status_of_trailers(fields: Mapping[bytes, bytes]) -> Status | None:
    """The status in the headers that end a call, if there is one."""
    number = fields.get(b"grpc-status")
    if number is None:
        return None
    details = reason(unquote_to_bytes(fields.get(b"grpc-message", b"")).decode("utf-8", "replace"))
    if len(number) <= _STATUS_DIGITS and number.isdigit() and (code := _CODES.get(int(number))) is not None:
        return Status(code, details)
    return Status(grpc.StatusCode.UNKNOWN, f"grpc-status {quote(number)}: {details}")


def status_of_reset(error_code: int) -> Status:
    """The status of a call whose stream was reset."""
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
