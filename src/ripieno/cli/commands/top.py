"""The command ``ripieno top``: what a cluster does, live in the terminal."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable

import click

from ripieno.cli.calling.addresses import address_flags
from ripieno.cli.calling.calls import calling
from ripieno.cli.calling.records import plain
from ripieno.cli.overview.look import Look, Looks
from ripieno.cli.overview.screen import lines_of
from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.cli.terms.values import Seconds

#: Seconds between the two looks of one answer, so that there is a rate.
_FIRST_S = 1.0
#: Looks take no more than one in so many of the time, whatever the user asks for.
_SHARE = 5
#: Columns where nobody says how wide the output is.
_WIDTH = 100


@click.command("top")
@click.option("--once", is_flag=True, help="Print what there is and end; so it does where the output is no terminal.")
@click.option("--every", "every_s", type=Seconds(min=0.2), metavar="SECONDS", default=1.0, show_default=True,
              help="How often to look.")  # fmt: skip
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Shape of the answer; json prints once.")  # fmt: skip
@address_flags
def command(once: bool, every_s: float, output: str, address: str) -> None:
    """What a cluster does: rate, queue, slots of each partition, agents, the slowest tasks, what fails most.

    Live in the terminal until Ctrl-C. It costs the cluster little, however many tasks there are: sums that it keeps
    anyway, what runs, and a bounded part of what waits and of what has failed.
    """
    if once or output == "json" or not _is_alive():
        with calling(address, Looks) as looks:
            looks.look()
            time.sleep(_FIRST_S)
            look = looks.look()
        if output == "json":
            click.echo(json.dumps(plain(look) | {"address": address}))
        else:
            width = shutil.get_terminal_size((_WIDTH, 0)).columns if sys.stdout.isatty() else _WIDTH
            click.echo("\n".join(lines_of(look, address, width, encoding=_encoding())))
        return
    _live(address, every_s)


def _live(address: str, every_s: float) -> None:
    """Show look after look until Ctrl-C; while no cluster answers, the last one with a line that says so."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    last: Look | None = None
    said, encoding = "", _encoding()
    with Live(
        console=Console(highlight=False), screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    ) as live:

        def show() -> None:
            size = shutil.get_terminal_size()
            head = [said] if said else []
            body = lines_of(last, address, size.columns, size.lines - len(head), encoding) if last else []
            live.update(Text("\n".join([*head, *body]), no_wrap=True, overflow="crop"), refresh=True)

        while True:
            try:
                with calling(address, Looks) as looks:
                    while True:
                        last, took_s = _timed(looks.look)
                        said = ""
                        show()
                        time.sleep(max(every_s, _SHARE * took_s))
            except CommandError as error:
                if last is None or error.exit_code not in (ExitCode.NO_ANSWER, ExitCode.REFUSED):
                    raise
                said = error.message
            show()
            time.sleep(every_s)


def _is_alive() -> bool:
    """Whether the output is a terminal on which lines can be written over."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


def _timed(look: Callable[[], Look]) -> tuple[Look, float]:
    began = time.monotonic()
    return look(), time.monotonic() - began


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "ascii"
