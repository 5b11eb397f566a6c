"""``Futures``: the futures of a ``map``, which show how far they have come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex, TypeVar, overload

from ripieno.functions.calling.future import Future
from ripieno.functions.showing import html
from ripieno.functions.showing.counting import Count, Counter
from ripieno.functions.showing.notebook import show_live

T = TypeVar("T")

#: The first failures are named in notebooks.
_FAILURES = 3


class Futures(list[Future[T]]):
    """A list of futures that says how far they have come, where a list would print each of them.

    In all else it is a list: it can be changed, and as an argument it is a list of values.
    """

    __slots__ = ("__weakref__",)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Future[T]: ...
    @overload
    def __getitem__(self, place: slice) -> Futures[T]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> Future[T] | Futures[T]:
        """Return the future at a place; or those of a slice, which say how far they have come, too."""
        return Futures(super().__getitem__(place)) if isinstance(place, slice) else super().__getitem__(place)

    def __repr__(self) -> str:
        """Show the functions' names, and how many futures are in which state."""
        count = _counted(self)
        failed = f", {count.failed:,} failed" if count.failed else ""
        return f"<{len(self):,} futures{_of(self)}: {count.done - count.failed:,} finished{failed}, {count.total - count.done:,} pending>"

    def _repr_html_(self) -> str:
        """Show how far they have come, and the first failures."""
        failed = [each for each in self if each.done() and not each.cancelled() and each.exception() is not None]
        under = [html.error_in_words(each.exception()) for each in failed[:_FAILURES]]
        return html.card(f"{len(self):,} futures{_of(self)}", {}, html.bar(_counted(self), under=under))

    def _ipython_display_(self) -> None:
        """Show the same in a notebook, drawn anew until all have ended."""
        show_live(self, lambda futures: _counted(futures).is_over)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """Pickle as a list, which is what a function gets."""
        return list, (list(self),)


def _counted(futures: Iterable[Future[Any]]) -> Count:
    return Counter(futures).count()


def _of(futures: list[Future[Any]]) -> str:
    return f" of {futures[0].name}" if futures else ""
