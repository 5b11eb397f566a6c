"""Notebooks: bars and objects whose HTML is drawn anew while they change, where IPython has a kernel."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from ripieno.functions.showing import html
from ripieno.functions.showing.counting import Count, Pace, rate_in_words, time_in_words

#: Time between two looks at an object on a page, and for how long a page is kept up to date.
_LOOK_S, _LONGEST_S = 0.5, 24 * 3600.0


def is_notebook() -> bool:
    """Whether this program is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell: Any = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class NotebookBar:
    """A bar under the cell that runs. It stays, and says at the end how it went."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._page: Any = None

    def show(self, count: Count, pace: Pace, elapsed_s: float, texts: Sequence[str]) -> None:
        """Draw the bar anew."""
        beside = [time_in_words(elapsed_s)]
        rate, left_s = pace.rate, pace.left_s(count)
        if rate is not None and left_s is not None:
            beside += [rate_in_words(rate), *([] if count.is_over else [f"{time_in_words(left_s)} left"])]
        self._page = draw(self._page, html.bar(count, self._name, beside, texts))

    def close(self) -> None:
        """Leave the bar as it was drawn last."""


def draw(page: Any, text: str) -> Any:
    """Draw HTML on the page, in the place of what ``page`` stands for; return what stands for it."""
    from IPython.display import HTML, display

    if page is None:
        return display(HTML(text), display_id=True)
    page.update(HTML(text))
    return page


def show_live(thing: Any, is_over: Callable[[Any], bool]) -> None:
    """Show a thing that has ``_repr_html_``, and draw it anew while it changes; called by IPython.

    Args:
        is_over: Whether it changes no more.

    Raises:
        NotImplementedError: this is no notebook; IPython then shows the thing in another way.
    """
    if not is_notebook():
        raise NotImplementedError
    drawn = thing._repr_html_()
    page = draw(None, drawn)
    if not is_over(thing):
        # The page alone does not keep the thing alive.
        follower = threading.Thread(
            target=_follow, args=(weakref.ref(thing), is_over, page, drawn), name="ripieno-page", daemon=True
        )
        follower.start()


def _follow(thing: Callable[[], Any], is_over: Callable[[Any], bool], page: Any, drawn: str) -> None:
    pause = threading.Event()
    for _ in range(int(_LONGEST_S / _LOOK_S)):
        pause.wait(_LOOK_S)
        held = thing()
        if held is None:
            return
        over = is_over(held)
        text = held._repr_html_()
        del held
        if text != drawn:
            draw(page, text)
            drawn = text
        if over:
            return
