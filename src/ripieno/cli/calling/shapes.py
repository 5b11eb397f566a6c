"""The shapes in which lists are printed: a table for people; JSON, JSON lines and CSV for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from rich.cells import cell_len

from ripieno.cli.calling.terminal import printable
from ripieno.domain.catalogue import Field, Kind, part_of_options
from ripieno.wire.options import options_from_wire


def cells(fields: Sequence[Field], message: Any) -> list[Any]:
    """Return the values of a row, as JSON has them: times as ISO 8601, durations in seconds, null for no value."""
    return [_cell(field, message) for field in fields]


def _cell(field: Field, message: Any) -> Any:
    if field.of:
        options = options_from_wire(field.of, getattr(message, field.of))
        if field.key is not None:
            return options.options.get(field.key)
        part = part_of_options(field)
        return options.max_duration_us / 1e6 if part == "max_duration" else getattr(options, part)
    if field.kind in (Kind.TIME, Kind.DURATION, Kind.OPTIONS) and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if field.kind is Kind.TIME:
        at: datetime = value.ToDatetime()
        return f"{at.isoformat(timespec='microseconds')}Z"
    if field.kind is Kind.DURATION:
        return value.ToTimedelta() / timedelta(seconds=1)
    if field.kind is Kind.OPTIONS:
        options = options_from_wire(field.name, value)
        seconds = options.max_duration_us / 1e6
        limits = {"max_duration": seconds, "max_retries": options.max_retries, "priority": options.priority}
        return {**limits, "options": dict(options.options)}
    if field.kind is Kind.TEXTS:
        return list(value)
    return None if field.optional and value == "" else value


def _text(cell: Any) -> str:
    """Return a cell for people, and for CSV."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, list):
        return ",".join(cell)
    return json.dumps(cell) if isinstance(cell, dict) else str(cell)


Pages = Iterable[Sequence[Sequence[Any]]]


def _table(pages: Pages, columns: Sequence[str]) -> None:
    """Print aligned columns; a later page may widen them."""
    head: list[Sequence[str]] = [list(columns)]
    widths = [0] * len(columns)
    for page in pages:
        lines = [*head, *([printable(_text(cell)) for cell in row] for row in page)]
        head = []
        widths = [max(width, *(cell_len(line[place]) for line in lines), 0) for place, width in enumerate(widths)]
        for line in lines:
            padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
            click.echo("  ".join(padded).rstrip())


def _json(pages: Pages, columns: Sequence[str]) -> None:
    """Print one array, an object at a time."""
    separator = "["
    for row in (row for page in pages for row in page):
        click.echo(separator + json.dumps(dict(zip(columns, row, strict=True))), nl=False)
        separator = ", "
    click.echo("]" if separator == ", " else "[]")


def _jsonl(pages: Pages, columns: Sequence[str]) -> None:
    for row in (row for page in pages for row in page):
        click.echo(json.dumps(dict(zip(columns, row, strict=True))))


def _csv(pages: Pages, columns: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for page in pages:
        writer.writerows([_text(cell) for cell in row] for row in page)


#: Name of a shape -> what prints pages of rows in it, given the names of the columns.
SHAPES = {"table": _table, "text": _table, "json": _json, "jsonl": _jsonl, "csv": _csv}
