"""Types of flag values, checked before anything starts."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ripieno.domain.addresses import parse_address, parse_addresses, parse_listen_address
from ripieno.domain.errors import InvalidRequestError

ValueT = TypeVar("ValueT")


class Seconds(click.FloatRange):
    """A click type for a length of time in seconds; refuses infinity and NaN."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the value as a number of seconds.

        Raises:
            click.BadParameter: if the value is no number, is out of range, or is not finite.
        """
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds; write a large one instead", param, ctx)
        return seconds


def directory(text: str) -> Path:
    """Check a flag's value that must be a directory's path, which need not exist; return the path."""
    if not text.strip():
        raise click.BadParameter("is empty; give a directory, or leave the flag out")
    if "\0" in text:
        raise click.BadParameter(f"{text!r} contains a NUL character, which no path may")
    return Path(text)


def listen_address(text: str) -> str:
    """Check a flag's value that must be a ``HOST:PORT`` for a server to listen at; return its one spelling."""
    return str(_checked(parse_listen_address, text))


def server_address(text: str) -> str:
    """Check a flag's value that must be a server's ``HOST:PORT`` or ``unix:/path``; return its one spelling."""
    return str(_checked(parse_address, text))


def server_addresses(text: str) -> tuple[str, ...]:
    """Check a flag's value that must be servers' addresses, separated by commas; return each distinct one once."""
    return tuple(dict.fromkeys(str(address) for address in _checked(parse_addresses, text)))


def _checked(parse: Callable[[str, str], ValueT], text: str) -> ValueT:
    """Return a flag's value as parsed by ``parse``.

    Raises:
        click.BadParameter: if ``parse`` refuses the text; click adds the flag's name.
    """
    try:
        return parse("", text)
    except InvalidRequestError as error:
        raise click.BadParameter(error.detail) from error
