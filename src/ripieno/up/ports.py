"""Whether a port is free, said before anything starts."""

import errno
import socket

from ripieno.up.errors import PortTakenError


def check_port_is_free(host: str, port: int) -> int:
    """Check that a server could listen at ``host:port``; return the port, a free one for 0.

    Raises:
        PortTakenError: it could not.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does: connections of the last one that still linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            free: int = probe.getsockname()[1]
    except OSError as error:
        raise PortTakenError(f"cannot listen at {host}:{port}: {_reason(error)}") from error
    return free


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop what listens there, or choose another one with --listen HOST:PORT"
    if error.errno == errno.EACCES:
        return "this user may not listen on that port; choose one above 1023 with --listen HOST:PORT"
    return f"{error.strerror}; choose another address with --listen HOST:PORT"
