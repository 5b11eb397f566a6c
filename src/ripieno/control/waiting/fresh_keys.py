"""``FreshKeys``: results that this replica has created just now, and of which nothing was heard since.

A client that submits tasks asks for their results next. Those are open still, as a rule, and whoever completes them
is heard: this replica itself, or another one by its news. So no look at the store is needed for them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ripieno.store.cluster.signals import News
from ripieno.store.sessions.changes import Changes

#: The most keys that are remembered. Beyond it those of the session that was submitted to first are forgotten.
_MOST = 200_000

Heard = list[Changes | News]


class FreshKeys:
    """Keys of results that are open, by session, as far as this replica has heard.

    Args:
        most: The most keys that are remembered, about.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._open: dict[int, dict[str, None]] = {}
        self._count = 0
        self._listening: list[Heard] = []

    @contextmanager
    def listening(self) -> Iterator[Heard]:
        """Collect what is heard while results are being created: another replica may complete them before we know."""
        heard: Heard = []
        self._listening.append(heard)
        try:
            yield heard
        finally:
            self._listening = [each for each in self._listening if each is not heard]

    def created(self, created: Mapping[int, Sequence[str]], heard: Heard) -> None:
        """Remember results that were created, by session, unless something was heard of them meanwhile."""
        for session_no, keys in created.items():
            known = self._open.setdefault(session_no, {})
            before = len(known)
            known.update(dict.fromkeys(keys))
            self._count += len(known) - before
        for each in heard:
            self._take_in(each)
        while self._count > self._most and self._open:
            self._forget(next(iter(self._open)))

    def others(self, session_no: int, keys: Iterable[str]) -> list[str]:
        """Return those of the keys that are not known to be open."""
        known = self._open.get(session_no)
        return list(keys) if known is None else [key for key in keys if key not in known]

    def changed_here(self, changes: Changes) -> None:
        """Take in what a transaction of this replica has changed."""
        self._hear(changes)

    def changed_elsewhere(self, news: News) -> None:
        """Take in what another replica has changed; if news may have been lost, nothing is known any more."""
        self._hear(news)

    def clear(self) -> None:
        """Forget all, also what is being created now: the database is another incarnation."""
        self._hear(News(everything=True))

    def _hear(self, what: Changes | News) -> None:
        for heard in self._listening:
            heard.append(what)
        if self._open:
            self._take_in(what)

    def _take_in(self, what: Changes | News) -> None:
        if isinstance(what, News):
            if what.everything:
                self._open.clear()
                self._count = 0
            finals: tuple[Mapping[int, Collection[str]], ...] = (what.results,)
        else:
            finals = (what.completed, what.aborted)
        for final in finals:
            for session_no, keys in final.items():
                self._remove(session_no, keys)
        for session_no in (*what.unnamed, *what.gone):
            self._forget(session_no)

    def _remove(self, session_no: int, keys: Collection[str]) -> None:
        known = self._open.get(session_no)
        if known is None:
            return
        before = len(known)
        for key in keys:
            known.pop(key, None)
        self._count -= before - len(known)
        if not known:
            del self._open[session_no]

    def _forget(self, session_no: int) -> None:
        self._count -= len(self._open.pop(session_no, ()))
