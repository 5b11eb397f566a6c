"""Kinds of values that flags take, checked before anything starts."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ripieno.domain.addresses import parse_address, parse_addresses, parse_listen_address
from ripieno.domain.errors import InvalidRequestError

ValueT = TypeVar("ValueT")


class Seconds(click.FloatRange):
    """A length of time; not a number without an end, nor one that is none."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Raises:
            click.BadParameter: click's own, or it is not finite.
        """
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds; write a large one instead", param, ctx)
        return seconds


def directory(text: str) -> Path:
    """A flag's value that must be a directory, which need not exist."""
    if not text.strip():
        raise click.BadParameter("is empty; give a directory, or leave the flag out")
    if "\0" in text:
        raise click.BadParameter(f"{text!r} contains a NUL character, which no path may")
    return Path(text)


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
