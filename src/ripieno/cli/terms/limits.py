"""The flag ``--limit NAME=VALUE``: limits of a replica, on its command line or in RIPIENO_LIMITS."""

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import click

from ripieno.config import LIMITS_VARIABLE, Limits

NAMES = tuple(field.name for field in fields(Limits))


def limit(text: str) -> tuple[str, int]:
    """Parse a flag's value ``NAME=VALUE``; the name may have dashes instead of underscores.

    Raises:
        click.BadParameter: if there is no such limit, or its value is not a whole number of at least 1.
    """
    name, separator, number = text.partition("=")
    name = name.strip().replace("-", "_")
    if not separator:
        raise click.BadParameter(f"{text!r} has no value; write NAME=VALUE, as in tasks_per_call=5000")
    if name not in NAMES:
        raise click.BadParameter(f"{name!r} is no limit; there are {', '.join(NAMES)}")
    try:
        value = int(number)
    except ValueError:
        value = 0
    if value < 1:
        raise click.BadParameter(f"{number!r} of {name} is not a whole number of at least 1")
    return name, value


def limit_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with a repeatable ``--limit NAME=VALUE``; it gets ``limits``, see ``limits_from``."""
    return click.option(
        "--limit",
        "limits",
        type=limit,
        metavar="NAME=VALUE",
        multiple=True,
        envvar=LIMITS_VARIABLE,
        help="What one caller may ask for, such as tasks_per_call=5000; once for each limit (docs/limits.md lists them)."
        f" Or in {LIMITS_VARIABLE}, with blanks between them.",
    )(command)


def limits_from(given: tuple[tuple[str, int], ...]) -> Limits:
    """Return the default limits with the given values in place; the last value of a repeated name counts."""
    return Limits(**{**asdict(Limits()), **dict(given)})
