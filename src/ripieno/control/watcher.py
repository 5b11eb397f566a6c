"""Waiting is pushed: who waits for what, and one shared look when something changed.

A *watch* belongs to one session (or one set of them). It remembers who waits, and looks at
the store only when a change of that session was told, at most one look at a time and with
a pause after it, however many wait (INV-22). What this replica commits itself is handed
over without a look. A slow look at everything now and then is the safety net for a lost
message, never the mechanism.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import RipienoError
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.changes import Changes
from ripieno.store.counts import read_counts
from ripieno.store.database import Database
from ripieno.store.lookup import FinishedKey, finished_results
from ripieno.store.signals import News

_log = structlog.get_logger(__name__)

#: Pause after a look: this, or four times what the look took, whichever is longer, so
#: that looking never takes more than a fifth of anything.
_SHORTEST_PAUSE_S = 0.01
_PAUSES = 4

#: A key asked for so soon after a change of its session is looked up a moment later: as a rule
#: it belongs to a task just submitted, and the look would only delay that (measured: 0.3 ms).
_RECENTLY_S = 0.02
_MOMENT_S = 0.003

#: The database was away.
_AFTER_FAILURE_S = 0.5

#: The safety net.
_LOOK_ANYWAY_S = 10.0

#: Keys asked for in one statement.
_KEYS_AT_ONCE = 2_000

Counts = Mapping[TaskStatus, int]


class Look:
    """Runs ``look`` after it was asked to, one at a time, while somebody is interested."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        self._look = look
        self._asked = asyncio.Event()
        self._urgent = asyncio.Event()

    def ask(self) -> None:
        """Something may have changed."""
        self._asked.set()

    def ask_urgently(self) -> None:
        """Somebody new waits: do not pause first."""
        self._asked.set()
        self._urgent.set()

    async def run(self) -> None:
        """Look for ever; cancel it to stop."""
        while True:
            await _set_within(self._asked, _LOOK_ANYWAY_S)
            self._asked.clear()
            self._urgent.clear()
            began = time.monotonic()
            try:
                await self._look()
            except RipienoError as error:
                _log.warning("could not look for waiters; will look again", error=error.detail)
                self._asked.set()
                await asyncio.sleep(_AFTER_FAILURE_S)
            await _set_within(self._urgent, max(_SHORTEST_PAUSE_S, _PAUSES * (time.monotonic() - began)))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, but not longer than that; whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class CountsWatch:
    """Waiters for the counts of some sessions."""

    def __init__(self, database: Database, sessions: Sequence[int]) -> None:
        self._database = database
        self._sessions = sessions
        self._waiting: dict[int, tuple[Callable[[Counts], bool], asyncio.Future[Counts]]] = {}
        self._numbers = itertools.count()
        self.look = Look(self._read)

    def ask(self, _changes: Changes | None) -> None:
        """One of the sessions has changed."""
        self.look.ask()

    async def wait(self, enough: Callable[[Counts], bool]) -> Counts:
        """Wait until the counts are enough, and return them."""
        number = next(self._numbers)
        future: asyncio.Future[Counts] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (enough, future)
        self.look.ask_urgently()
        try:
            return await future
        finally:
            del self._waiting[number]

    async def _read(self) -> None:
        counts = await read_counts(self._database, self._sessions)
        for enough, future in self._waiting.values():
            if not future.done() and enough(counts):
                future.set_result(counts)


#: Gets results that need no more waiting.
Deliver = Callable[[Sequence[FinishedKey]], None]


class KeysWatch:
    """Waiters for results of one session: each key is delivered once to each who asked."""

    def __init__(self, database: Database, session_no: int, data_limit: int) -> None:
        self._database = database
        self._session_no = session_no
        self._data_limit = data_limit
        self._waiting: dict[str, list[Deliver]] = {}
        self._new: list[str] = []
        self._changed_at = 0.0
        self._soon: asyncio.TimerHandle | None = None
        self.look = Look(self._read)

    def add(self, keys: Sequence[str], deliver: Deliver) -> None:
        """Wait for these keys. Those that are final already are delivered by the next look (INV-21)."""
        for key in keys:
            self._waiting.setdefault(key, []).append(deliver)
        self._new += keys
        if time.monotonic() - self._changed_at < _RECENTLY_S:
            # Most likely the results of tasks submitted just now, which will be heard of in a moment.
            # One look for all that are asked for until then, and none if they were heard of.
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_later(_MOMENT_S, self._look_for_new)
        else:
            self.look.ask_urgently()

    def _look_for_new(self) -> None:
        self._soon = None
        self._new = [key for key in self._new if key in self._waiting]
        if self._new:
            self.look.ask_urgently()

    def remove(self, deliver: Deliver) -> None:
        """Whoever got results by ``deliver`` waits no more."""
        for key in [key for key, delivers in self._waiting.items() if deliver in delivers]:
            self._waiting[key].remove(deliver)
            if not self._waiting[key]:
                del self._waiting[key]

    def ask(self, changes: Changes | None) -> None:
        """The session has changed: here (what was completed comes along), or elsewhere (None)."""
        self._changed_at = time.monotonic()
        if changes is None or self._session_no in changes.aborted or self._session_no in changes.unnamed:
            self._new = list(self._waiting)
            self.look.ask()
        if changes is not None and self._session_no in changes.completed:
            self._deliver(
                [
                    _finished(key, data, self._data_limit)
                    for key, data in changes.completed[self._session_no].items()
                    if key in self._waiting
                ]
            )

    async def _read(self) -> None:
        # Nothing asked for by name: the safety net looks at everything.
        keys, self._new = self._new or list(self._waiting), []
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            asked = [key for key in keys[start : start + _KEYS_AT_ONCE] if key in self._waiting]
            if asked:
                self._deliver(await finished_results(self._database, self._session_no, asked, self._data_limit))

    def _deliver(self, finished: Sequence[FinishedKey]) -> None:
        per_waiter: dict[Deliver, list[FinishedKey]] = {}
        for each in finished:
            for deliver in self._waiting.pop(each.key, ()):
                per_waiter.setdefault(deliver, []).append(each)
        for deliver, results in per_waiter.items():
            deliver(results)


class Watcher:
    """All watches of this replica; each exists, and its task runs, while somebody waits."""

    def __init__(self, database: Database, data_limit: int) -> None:
        self._database = database
        self._data_limit = data_limit
        self._watches: dict[Any, tuple[Any, asyncio.Task[None], list[int]]] = {}
        self._by_session: dict[int, list[Any]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Keep the watches' tasks until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await asyncio.Event().wait()

    def changed_here(self, changes: Changes) -> None:
        """A transaction of this replica has committed."""
        for session_no in changes.sessions:
            for watch in self._by_session.get(session_no, ()):
                watch.ask(changes)

    def changed_elsewhere(self, news: News) -> None:
        """Another replica has committed."""
        for session_no in list(self._by_session) if news.everything else news.sessions:
            for watch in self._by_session.get(session_no, ()):
                watch.ask(None)

    @contextmanager
    def counts(self, sessions: Sequence[int]) -> Iterator[CountsWatch]:
        """The watch on the counts of these sessions."""
        numbers = tuple(sorted(sessions))
        with self._shared(("counts", numbers), numbers, lambda: CountsWatch(self._database, numbers)) as watch:
            yield watch

    @contextmanager
    def keys(self, session_no: int) -> Iterator[KeysWatch]:
        """The watch on the results of this session."""

        def make() -> KeysWatch:
            return KeysWatch(self._database, session_no, self._data_limit)

        with self._shared(("keys", session_no), (session_no,), make) as watch:
            yield watch

    @contextmanager
    def looks(self, sessions: Sequence[int], look: Callable[[], Awaitable[None]]) -> Iterator[Look]:
        """A look of one waiter's own, asked for when one of these sessions changes."""

        class Own:
            def __init__(self) -> None:
                self.look = Look(look)

            def ask(self, _changes: Changes | None) -> None:
                self.look.ask()

        own = Own()
        with self._shared(own, sessions, lambda: own):
            own.look.ask_urgently()
            yield own.look

    @contextmanager
    def _shared(self, name: Any, sessions: Sequence[int], make: Callable[[], Any]) -> Iterator[Any]:
        if name not in self._watches:
            assert self._group is not None, "the watcher runs before calls are served"
            watch = make()
            self._watches[name] = (watch, self._group.create_task(watch.look.run()), [0])
            for session_no in sessions:
                self._by_session.setdefault(session_no, []).append(watch)
        watch, task, users = self._watches[name]
        users[0] += 1
        try:
            yield watch
        finally:
            users[0] -= 1
            if not users[0]:
                task.cancel()
                del self._watches[name]
                for session_no in sessions:
                    self._by_session[session_no].remove(watch)
                    if not self._by_session[session_no]:
                        del self._by_session[session_no]


def _finished(key: str, data: bytes | StoredObject, limit: int) -> FinishedKey:
    if isinstance(data, StoredObject):
        return FinishedKey(key, ResultStatus.COMPLETED, data.size, None, data)
    return FinishedKey(key, ResultStatus.COMPLETED, len(data), data if len(data) <= limit else None)
