"""Kinds of values that flags take, checked before anything starts."""

from collections.abc import Callable
from typing import TypeVar

import click

from ripieno.domain.addresses import parse_address, parse_addresses, parse_listen_address
from ripieno.domain.errors import InvalidRequestError

ValueT = TypeVar("ValueT")


def listen_address(text: str) -> str:
    """A flag's value that must be the ``HOST:PORT`` of a server of ours; in its one spelling."""
    return str(_checked(parse_listen_address, text))


def server_address(text: str) -> str:
    """The same for where a server is reached: ``HOST:PORT`` or ``unix:/path``."""
    return str(_checked(parse_address, text))


def server_addresses(text: str) -> tuple[str, ...]:
    """The same for one or more of them, separated by commas; one that is given twice counts once."""
    return tuple(dict.fromkeys(str(address) for address in _checked(parse_addresses, text)))


def _checked(parse: Callable[[str, str], ValueT], text: str) -> ValueT:
    """What ``parse`` makes of a flag's value.

    Raises:
        click.BadParameter: click adds the flag's name.
    """
    try:
        return parse("", text)
    except InvalidRequestError as error:
        raise click.BadParameter(error.detail) from error
