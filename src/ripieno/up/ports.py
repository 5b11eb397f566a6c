"""Checking that a port is free before anything starts."""

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from ripieno.domain.addresses import TcpAddress
from ripieno.up.errors import PortTakenError

#: Number of times that a free port of a name's first address is tried on its other addresses.
_TRIES = 20
#: Errors of an address that this machine does not have.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def check_port_is_free(address: TcpAddress) -> TcpAddress:
    """Check that a server could listen at an address; of a name, at all of its addresses that this machine has.

    Returns:
        The address, with a free port in place of port 0.

    Raises:
        PortTakenError: if no server could listen there.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for tries_left in reversed(range(_TRIES)):
            try:
                return TcpAddress(address.host, _bound(found, address.port))
            except OSError as error:
                if address.port or not tries_left or error.errno != errno.EADDRINUSE:
                    raise
    except OSError as error:
        raise PortTakenError(f"cannot listen at {address}: {_reason(error)}") from error
    raise AssertionError("the last try returns or raises")


def _bound(found: Iterable[tuple[int, int, int, str, Any]], port: int) -> int:
    """Bind to all of these addresses that this machine has, at the same time; return the port.

    Raises:
        OSError: if one of the addresses is taken, or this machine has none of them.
    """
    missing: OSError | None = None
    with ExitStack() as probes:
        bound = 0
        for family, kind, protocol, _, (host, _, *scope) in found:
            try:
                probe = probes.enter_context(socket.socket(family, kind, protocol))
                # The server sets this, too: lingering connections of an earlier server are no obstacle.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, bound or port, *scope))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error  # a name may stand for ::1 where IPv6 is off
            else:
                bound = probe.getsockname()[1]
    if not bound and missing is not None:
        raise missing
    return bound


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop what listens there, or choose another one with --listen HOST:PORT"
    if error.errno == errno.EACCES:
        return "this user may not listen on that port; choose one above 1023 with --listen HOST:PORT"
    return f"{error.strerror}; choose another address with --listen HOST:PORT"
