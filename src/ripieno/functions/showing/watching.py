"""``watching``: shows how far futures have come while somebody waits for them, where there is somebody to see it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol

from ripieno.config import PROGRESS_VARIABLE
from ripieno.functions.showing.counting import Count, Counter, Pace
from ripieno.functions.showing.notebook import NotebookBar, is_notebook
from ripieno.functions.showing.terminal import TerminalBar

#: A wait that is shorter shows nothing.
APPEARS_AFTER_S = 1.0
#: Time between two looks; where there are so many futures that a look takes long, more, so that looking takes
#: no more than this part of the time.
_LOOK_S, _SHARE = 0.2, 0.02

#: One bar at a time: two would write over one another. Held by the thread that draws.
_drawing = threading.Lock()


class Bar(Protocol):
    """Something that shows how far futures have come."""

    def show(self, count: Count, pace: Pace, elapsed_s: float, texts: Sequence[str]) -> None:
        """Draw it anew."""
        ...

    def close(self) -> None:
        """Draw no more."""
        ...


class Reports(Protocol):
    """What tasks that run say about themselves."""

    def texts(self) -> Sequence[str]:
        """Return a few lines, the latest first."""
        ...

    def close(self) -> None:
        """Listen no more."""
        ...


@contextmanager
def watching(
    futures: Sequence[Future[Any]], name: str, listen: Callable[[], Reports], *, progress: bool = True
) -> Iterator[None]:
    """Show a bar for the time of the context, if it lasts longer than a second.

    It appears in a notebook, or on standard error if that is a terminal; else nothing happens, and neither with
    ``progress=False`` or RIPIENO_PROGRESS=0. Nothing is done for each future but to look whether it is done, now and
    then, on a thread of its own.

    Args:
        name: What the futures are of.
        listen: Called when the bar appears, to be told what running tasks say.
    """
    bar_of = _bar_of() if progress else None
    if bar_of is None or not _drawing.acquire(blocking=False):
        yield
        return
    ended = threading.Event()
    try:
        thread = threading.Thread(
            target=_draw, args=(futures, lambda: bar_of(name), listen, ended), name="ripieno-progress", daemon=True
        )
        thread.start()
    except BaseException:
        _drawing.release()
        raise
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _bar_of() -> Callable[[str], Bar] | None:
    """Return what makes a bar where this program's user sees one."""
    if os.environ.get(PROGRESS_VARIABLE) == "0":
        return None
    if is_notebook():
        return NotebookBar
    # A program without standard error has None there.
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return TerminalBar
    return None


def _draw(
    futures: Sequence[Future[Any]], bar_of: Callable[[], Bar], listen: Callable[[], Reports], ended: threading.Event
) -> None:
    begun = time.monotonic()
    try:
        if ended.wait(APPEARS_AFTER_S):
            return
        counter, pace = Counter(futures), Pace()
        pace.note(begun, counter.count().done)
        bar, reports = bar_of(), listen()
        try:
            _keep_drawing(bar, counter, pace, begun, reports, ended)
        finally:
            reports.close()
            bar.close()
    except (OSError, ValueError):
        # The terminal is gone, or its stream closed: there is nobody to see it, and the wait goes on.
        return
    finally:
        _drawing.release()


def _keep_drawing(
    bar: Bar, counter: Counter, pace: Pace, begun: float, reports: Reports, ended: threading.Event
) -> None:
    is_over = False
    while True:
        looked = time.monotonic()
        count = counter.count()
        now = time.monotonic()
        pace.note(now, count.done)
        is_over = is_over or count.is_over
        bar.show(count, pace, now - begun, () if is_over else reports.texts())
        if is_over:
            return
        is_over = ended.wait(max(_LOOK_S, (now - looked) / _SHARE))
