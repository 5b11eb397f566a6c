"""``Report``: what a map tells on standard error: progress on a terminal, failures, and how it ended."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ripieno.cli.calling.terminal import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: So many failures are shown; the others are counted.
SHOWN_FAILURES = 20
#: The most lines of a reason that are shown.
_SHOWN_LINES = 20


@dataclass(slots=True)
class Counted:
    """How many inputs are in which state.

    Attributes:
        total: How many there are; None until it is known.
        done: How many are done, in this run or before it.
        known: How many of them were done before this run.
        failed: How many have failed.
    """

    total: int | None = None
    done: int = 0
    known: int = 0
    failed: int = 0


class Report:
    """Tells of one run.

    Args:
        bar: Whether to show a progress bar.
    """

    def __init__(self, total: int | None, *, bar: bool) -> None:
        self.counted = Counted(total)
        self._began_at = time.monotonic()
        self._bar: Progress | None = None
        self._row: TaskID | None = None
        if bar:
            self._bar = _progress()
            self._row = self._bar.add_task("", total=total, rate="", failed="")
            self._bar.start()

    def show(self) -> None:
        """Show what is counted."""
        if self._bar is None or self._row is None:
            return
        each = self.counted
        fresh = each.done - each.known
        rate = f"{fresh / max(time.monotonic() - self._began_at, 1e-3):,.1f}/s" if fresh else ""
        failed = f"{each.failed:,} failed" if each.failed else ""
        self._bar.update(self._row, total=each.total, completed=each.done + each.failed, rate=rate, failed=failed)

    def tell(self, text: str) -> None:
        """Write lines on standard error, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)

    def failure(self, number: int, given: str, reason: str, task_id: str, attempts: int) -> None:
        """Tell of an input that has failed, for the first few of them."""
        if self.counted.failed > SHOWN_FAILURES:
            return
        first, *rest = reason.split("\n") if reason else ["without a reason"]
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        self.tell(
            f"input {number:,} ({_shortened(printable(given))}) failed{tries}: {printable(first)}  [task {task_id}]"
        )
        left_out = len(rest) - _SHOWN_LINES
        if left_out > 0:
            self.tell(f"    [... {left_out:,} lines, see `ripieno task show`]")
        for line in rest[-_SHOWN_LINES:]:
            self.tell(f"    {printable(line)}")
        if self.counted.failed == SHOWN_FAILURES:
            self.tell("further failures are counted, and not shown")

    def close(self) -> bool:
        """Take the bar away; return whether there was one. May be repeated."""
        if self._bar is None:
            return False
        self.show()
        self._bar.stop()
        self._bar = None
        return True

    def in_words(self) -> str:
        """Return how many are done, in how much time."""
        each = self.counted
        seconds = time.monotonic() - self._began_at
        known = f", {each.known:,} of them by an earlier run" if each.known else ""
        return f"{each.done:,} done{known}, {each.failed:,} failed in {seconds:,.1f} s"


def wants_bar(*, prints_results: bool) -> bool:
    """Return whether a bar can be shown: on a terminal to which no results are written at the same time."""
    return sys.stderr.isatty() and not (prints_results and sys.stdout.isatty())


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}", style="red"),
    ]
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
