"""``--limit NAME=VALUE``: the limits of a replica, on its command line or in RIPIENO_LIMITS."""

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import click

from ripieno.config import LIMITS_VARIABLE, Limits

NAMES = tuple(field.name for field in fields(Limits))


class LimitValue(click.ParamType):
    """``NAME=VALUE``; dashes in the name are as good as underscores, and so are underscores in the value."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Name and value.

        Raises:
            click.BadParameter: no such limit, or no such value.
        """
        if isinstance(value, tuple):
            return value
        name, separator, number = str(value).partition("=")
        name = name.strip().replace("-", "_")
        if not separator:
            self.fail(f"{value!r} has no value; write NAME=VALUE, as in tasks_per_call=5000", param, ctx)
        if name not in NAMES:
            self.fail(f"{name!r} is no limit; there are {', '.join(NAMES)}", param, ctx)
        try:
            limit = int(number)
        except ValueError:
            limit = 0
        if limit < 1:
            self.fail(f"{number!r} of {name} is not a whole number of at least 1", param, ctx)
        return name, limit


def limit_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--limit NAME=VALUE``, as often as wanted; the command gets ``limits``, see ``limits_from``."""
    return click.option(
        "--limit",
        "limits",
        type=LimitValue(),
        metavar="NAME=VALUE",
        multiple=True,
        envvar=LIMITS_VARIABLE,
        help="What one caller may ask for, such as tasks_per_call=5000; once for each limit (docs/limits.md lists them)."
        f" Or in {LIMITS_VARIABLE}, with blanks between them.",
    )(command)


def limits_from(given: tuple[tuple[str, int], ...]) -> Limits:
    """The limits with those values that were given; of one given twice the last."""
    return Limits(**{**asdict(Limits()), **dict(given)})
