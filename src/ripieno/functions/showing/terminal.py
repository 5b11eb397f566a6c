"""``TerminalBar``: a line at the end of a terminal that says how far futures have come."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ripieno.functions.showing.counting import Count, Pace, rate_in_words, time_in_words

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR_COLUMNS, _GAP = 20, 2


class TerminalBar:
    """A bar on standard error, which is a terminal. It is gone after ``close``.

    What is printed meanwhile appears above it. It leaves the cursor visible, so that a program that is killed leaves
    its terminal in order.

    Args:
        name: What the futures are of.
    """

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._name = name
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            # What a program writes to a file or a pipe goes there.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            redirect_stderr=True,
            vertical_overflow="crop",
        )
        self._live.start()
        self._console.show_cursor(True)

    def show(self, count: Count, pace: Pace, elapsed_s: float, texts: Sequence[str]) -> None:
        """Draw the bar anew; ``texts`` are what running tasks say."""
        self._live.update(self._lines(count, pace, elapsed_s, texts), refresh=True)

    def close(self) -> None:
        """Remove the bar."""
        self._live.stop()

    def _lines(self, count: Count, pace: Pace, elapsed_s: float, texts: Sequence[str]) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rate, left_s = pace.rate, pace.left_s(count)
        words = [f"{count.done:,}/{count.total:,}"]
        if rate is not None and left_s is not None:
            words += [rate_in_words(rate), f"{time_in_words(left_s)} left"]
        else:
            words.append(time_in_words(elapsed_s))
        failed = f"{count.failed:,} failed" if count.failed else ""
        room = self._console.width - _BAR_COLUMNS - sum(len(word) + _GAP for word in (*words, failed, ""))
        line = Table.grid(padding=(0, _GAP, 0, 0))
        line.add_column(no_wrap=True, overflow="crop")
        line.add_column(width=_BAR_COLUMNS)
        for _ in range(len(words) + 1):
            line.add_column(no_wrap=True, overflow="crop")
        bar = ProgressBar(count.total, count.done, _BAR_COLUMNS)
        line.add_row(Text(_fitting(self._name, room)), bar, *words, Text(failed, "red"))
        return Group(line, *(Text(f"  {text}", "dim", no_wrap=True, overflow="crop") for text in texts))


def _fitting(name: str, columns: int) -> str:
    """Return a function's name, or its last part, or the beginning of that, as there is room."""
    shown = name if len(name) <= columns else name.rpartition(".")[2]
    return shown[: max(columns, 8)]
