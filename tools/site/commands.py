"""``commands``: the reference of the command line as Markdown, made of what click knows of each command."""

import re
from collections.abc import Iterator
from inspect import cleandoc

import click


def reference(root: click.Group, program: str) -> str:
    """Return a section for each command below ``root``, and for each command below those."""
    return "\n".join(_group(root, click.Context(root, info_name=program), depth=2))


def _group(group: click.Group, context: click.Context, depth: int) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, info_name=name, parent=context)
        yield from _command(command, inner, depth)
        if isinstance(command, click.Group):
            yield from _group(command, inner, depth + 1)


def _command(command: click.Command, context: click.Context, depth: int) -> Iterator[str]:
    pieces = command.collect_usage_pieces(context)
    yield from ("", f"{'#' * depth} {context.command_path}", "")
    yield from ("```text", " ".join([context.command_path, *pieces]), "```", "")
    yield from (_prose(cleandoc(command.help or "")), "")
    rows = [row for parameter in command.params if (row := _row(parameter, context)) is not None]
    if rows:
        yield from ("| option | what it does |", "|---|---|", *rows, "")


def _row(parameter: click.Parameter, context: click.Context) -> str | None:
    record = parameter.get_help_record(context)
    if record is None:
        return None
    flags, text = record
    return f"| `{flags.replace('|', chr(92) + '|')}` | {_prose(text).replace('|', chr(92) + '|')} |"


def _prose(text: str) -> str:
    """Help texts mark code with backquotes, as Markdown does; nothing else in them is markup."""
    parts = re.split(r"(`[^`]*`)", text.replace("\b\n", ""))
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts)
