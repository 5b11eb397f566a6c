"""Addresses of servers, and the one parser of them for flags, environment variables and arguments.

::

    127.0.0.1:5001    [::1]:5001    cluster.example:5001    unix:/run/worker.sock

An IPv6 host is written in brackets. A host's name is looked up anew each time a process connects or
listens, and may have several addresses. A socket's path is taken as it is written, without
any escapes. ``str()`` of an address is its one spelling, and parses to the same address.
"""

import ipaddress
import os
import re
import sys
from dataclasses import dataclass

from ripieno.domain.errors import InvalidRequestError

LARGEST_PORT = 65_535
#: Longest path of a unix socket that the kernel takes: 107 bytes on Linux, 103 on macOS.
LONGEST_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103

#: Hosts that stand for every interface of a machine -> its own address of that family.
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
_UNIX = "unix:"
_LONGEST_NAME, _LONGEST_LABEL = 253, 63
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\Z")
_DIGITS = re.compile(r"[0-9]{1,5}\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://+")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """The address of a TCP server.

    Attributes:
        host: The host's address (without brackets) or name.
        port: The port; 0 if a server is to take a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> "TcpAddress":
        """The address to which a client on the same machine connects: loopback for a server on every interface."""
        return TcpAddress(_EVERY_INTERFACE.get(self.host, self.host), self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether the host is certainly this machine: ``localhost`` or a loopback address."""
        bare = self.host.partition("%")[0]
        return bare == "localhost" or (_is_numeric(bare) and ipaddress.ip_address(bare).is_loopback)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The address of a unix socket: its absolute path."""

    path: str

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(field: str, text: str) -> Address:
    """Parse the address of a server to connect to.

    Args:
        field: Name of the text's source (a flag, a variable), for the error.
        text: ``HOST:PORT`` or ``unix:/path``; white space around it is ignored.

    Raises:
        InvalidRequestError: if the text is no such address; it names the field, the value and a valid spelling.
    """
    bare = text.strip()
    address = _unix(field, bare) if bare.startswith(_UNIX) else parse_listen_address(field, bare)
    if isinstance(address, TcpAddress) and not address.port:
        raise InvalidRequestError(field, f"{bare!r} has port 0, where nobody can be reached; give the server's port")
    return address


def parse_addresses(field: str, text: str) -> tuple[Address, ...]:
    """Parse one or more addresses, separated by commas; errors as in ``parse_address``."""
    return tuple(parse_address(field, part) for part in text.split(","))


def parse_listen_address(field: str, text: str) -> TcpAddress:
    """Parse the ``HOST:PORT`` at which a server is to listen; port 0 means a free one.

    Raises:
        InvalidRequestError: if the text is no such address; it names the field, the value and a valid spelling.
    """
    bare = text.strip()
    if scheme := _SCHEME.match(bare):
        host = bare[scheme.end() :].partition("/")[0] or "127.0.0.1:5001"
        raise InvalidRequestError(field, f"{bare!r} is a URL; write the host and the port alone: {host}")
    if bare.startswith(_UNIX):
        raise InvalidRequestError(field, f"{bare!r} is a unix socket, which is not served here; write HOST:PORT")
    host, port = _split(field, bare)
    if not _DIGITS.match(port) or int(port) > LARGEST_PORT:
        raise InvalidRequestError(field, f"{bare!r} has port {port!r}, which is not a number from 0 to {LARGEST_PORT}")
    return TcpAddress(_checked_host(field, bare, host), int(port))


def parse_worker_address(field: str, text: str) -> Address:
    """Parse the ``unix:/path`` or ``HOST:PORT`` at which a worker is to listen; errors as in ``parse_address``."""
    bare = text.strip()
    return _unix(field, bare) if bare.startswith(_UNIX) else parse_listen_address(field, bare)


def _split(field: str, text: str) -> tuple[str, str]:
    """Split ``HOST:PORT`` into the host, its brackets removed, and the port; checks brackets but no name or number.

    Raises:
        InvalidRequestError: if the host or the port is missing, or brackets are wrong.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise InvalidRequestError(field, f"{text!r} has no closing bracket; write [::1]:5001")
        if not rest.startswith(":"):
            raise InvalidRequestError(field, f"{text!r} has no port; write [{host}]:5001")
        if not _is_numeric(host) or ":" not in host:
            raise InvalidRequestError(field, f"{text!r} has no IPv6 address between its brackets; write [::1]:5001")
        return host, rest[1:]
    host, colon, port = text.rpartition(":")
    if not colon:
        example = f"{text}:5001" if text and not text.isdigit() else f"127.0.0.1:{text or 5001}"
        raise InvalidRequestError(field, f"{text!r} is not HOST:PORT; write {example}, for instance")
    if not host:
        raise InvalidRequestError(field, f"{text!r} has no host; write 127.0.0.1:{port or 5001}, for instance")
    if ":" in host:
        whole = text if _is_numeric(text) and not _is_numeric(host) else host
        raise InvalidRequestError(field, f"{text!r} has an IPv6 host without brackets; write [{whole}]:{port or 5001}")
    return host, port


def _checked_host(field: str, text: str, host: str) -> str:
    """Return the host as resolvers take it: names of other scripts in their ASCII form.

    Raises:
        InvalidRequestError: if the host is neither an IP address nor a well-formed name.
    """
    if _is_numeric(host):
        return host
    if host.replace(".", "").isdigit():
        raise InvalidRequestError(field, f"{text!r} has host {host!r}, which is no IPv4 address; write 127.0.0.1:5001")
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        name = ""
    labels = name.removesuffix(".").split(".")
    if len(name) > _LONGEST_NAME or not all(len(one) <= _LONGEST_LABEL and _LABEL.match(one) for one in labels):
        shown = host if len(host) <= _LONGEST_LABEL else f"{host[:_LONGEST_LABEL]}..."
        raise InvalidRequestError(field, f"{shown!r} is not the name of a host; write HOST:PORT, e.g. 127.0.0.1:5001")
    return name


def _is_numeric(host: str) -> bool:
    """Whether `host` is an IPv4 or IPv6 address, the latter possibly with the name of an interface."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _unix(field: str, text: str) -> UnixAddress:
    path = text.removeprefix(_UNIX)
    # unix:///path is the same address with an empty host, as in a URL.
    path = path[2:] if path.startswith("///") else path
    if not path.startswith("/"):
        raise InvalidRequestError(field, f"{text!r} has no absolute path; write unix:/path/to/socket")
    if "\0" in path:
        raise InvalidRequestError(field, f"{text!r} contains a NUL character, which no path may")
    size = len(os.fsencode(path))
    if size > LONGEST_SOCKET_PATH_BYTES:
        raise InvalidRequestError(
            field,
            f"{text!r} has a path of {size} bytes, a socket's has {LONGEST_SOCKET_PATH_BYTES} at most; shorten it",
        )
    return UnixAddress(path)
