"""Validation of response headers and trailers (RFC 9113, section 8)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ripieno.agent.transport.frames import quote

#: Header names and values as they were sent, in order.
Headers = Sequence[tuple[bytes, bytes]]

_NAME = re.compile(rb":?[^\x00-\x20A-Z\x7f-\xff:]+\Z")
_FORBIDDEN = re.compile(rb"[\0\r\n]")
_STATUS = re.compile(rb"[1-9][0-9][0-9]\Z")
#: Fields about one HTTP/1 connection, which HTTP/2 forbids.
_OF_HTTP1 = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_SWITCHING_PROTOCOLS = 101


class MalformedError(ValueError):
    """A response has headers that none may have; the text says which."""


def check_answer(headers: Headers) -> int:
    """Check the first headers of a response and return their HTTP status.

    Raises:
        MalformedError: if a response may not have these headers.
    """
    _check_fields(headers)
    if not headers or headers[0][0] != b":status":
        raise MalformedError("an answer without :status")
    if any(name.startswith(b":") for name, _ in headers[1:]):
        raise MalformedError("a pseudo-header that is not the first field, or not :status")
    value = headers[0][1]
    if not _STATUS.match(value) or int(value) == _SWITCHING_PROTOCOLS:
        raise MalformedError(f"the :status {quote(value)}")
    return int(value)


def check_trailers(headers: Headers) -> None:
    """Check the headers that end a response (trailers).

    Raises:
        MalformedError: if trailers may not have these fields.
    """
    _check_fields(headers)
    for name, _ in headers:
        if name.startswith(b":"):
            raise MalformedError(f"{quote(name)} in trailers")


def _check_fields(headers: Headers) -> None:
    for name, value in headers:
        if not _NAME.match(name):
            raise MalformedError(f"a field named {quote(name)}")
        if _FORBIDDEN.search(value):
            raise MalformedError(f"the value {quote(value)} of {quote(name)}")
        if name in _OF_HTTP1:
            raise MalformedError(f"the field {quote(name)}, which belongs to HTTP/1")
