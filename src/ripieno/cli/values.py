"""Kinds of values that flags take, checked before anything starts."""

import click

LONGEST_PORT = 65_535


def split_address(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` (``[::1]:PORT`` for IPv6).

    Raises:
        ValueError: saying what is wrong with it.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("is not HOST:PORT, for instance 127.0.0.1:5001")
    if not port.isascii() or not port.isdigit() or int(port) > LONGEST_PORT:
        raise ValueError(f"has port {port!r}, which is not a number from 0 to {LONGEST_PORT}")
    bare = host.removeprefix("[").removesuffix("]")
    if ":" in bare and bare == host:
        raise ValueError(f"has an IPv6 host without brackets; write [{host}]:{port}")
    return bare, int(port)


def tcp_address(text: str) -> str:
    """A flag's value that must be ``HOST:PORT``; returned as it was written.

    Raises:
        click.BadParameter: click adds the flag's name.
    """
    try:
        split_address(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}") from error
    return text


def tcp_addresses(text: str) -> tuple[str, ...]:
    """The same for one or more of them, separated by commas."""
    return tuple(tcp_address(part.strip()) for part in text.split(","))


def worker_address(text: str) -> str:
    """The same for ``unix:/path`` or ``HOST:PORT``."""
    if not text.startswith("unix:"):
        return tcp_address(text)
    if not text.removeprefix("unix:").startswith("/"):
        raise click.BadParameter(f"{text!r} has no absolute path; write unix:/path/to/socket")
    return text
