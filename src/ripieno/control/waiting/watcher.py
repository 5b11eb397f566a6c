"""The watcher: keeps the watches of a replica and tells them of changes, so that no wait has to poll.

A *watch* belongs to one session (or one set of them) and exists while somebody waits there.
It is told each change of its session, from this replica and from the others, and looks at
the store for all its waiters together (``control.waiting.watches``, ``control.waiting.looking``).

A replica that goes away ends every wait with UNAVAILABLE at once, so that its clients ask
another one, or the same one when it is back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from ripieno.background import Setback
from ripieno.control.waiting.fresh_keys import FreshKeys
from ripieno.control.waiting.looking import Look
from ripieno.control.waiting.watches import CountsWatch, KeysWatch, TasksWatch
from ripieno.domain.errors import UnavailableError
from ripieno.store.cluster.signals import News
from ripieno.store.database.database import Database
from ripieno.store.sessions.changes import Changes

WatchT = TypeVar("WatchT", bound="Watch")


class Watch(Protocol):
    """The interface of watches: told of changes, they look at the store for their waiters."""

    look: Look

    def changed(self, changes: Changes) -> None:
        """Called when this replica has changed one of the watch's sessions."""

    def heard(self, news: News) -> None:
        """Called when another replica has changed one of the watch's sessions."""


class _Running:
    """A watch, the task that runs its look, and the number of its users."""

    def __init__(self, watch: Watch, task: "asyncio.Task[None]") -> None:
        self.watch = watch
        self.task = task
        self.users = 0


class _Own:
    """The watch of a single waiter, with a look of its own."""

    def __init__(self, look: Look) -> None:
        self.look = look

    def changed(self, _changes: Changes) -> None:
        self.look.ask()

    def heard(self, _news: News) -> None:
        self.look.ask()


class Watcher:
    """Keeps all watches of this replica; each exists, and its task runs, while somebody waits.

    Args:
        data_limit: Results up to this many bytes come with their data.
        fresh: Results that need no look.
    """

    def __init__(self, database: Database, data_limit: int, fresh: FreshKeys | None = None) -> None:
        self._database = database
        self._fresh = FreshKeys() if fresh is None else fresh
        self._data_limit = data_limit
        self._running: dict[Hashable, _Running] = {}
        self._by_session: dict[int, dict[Watch, None]] = {}
        self._promises: set[asyncio.Future[Any]] = set()
        self._leaving = False
        self._faults = Setback("looking for what clients wait for")
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Keep the tasks of the watches until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await asyncio.Event().wait()

    def changed_here(self, changes: Changes) -> None:
        """Tell the watches what a transaction of this replica has changed."""
        for session_no in changes.sessions:
            for watch in self._by_session.get(session_no, ()):
                watch.changed(changes)

    def changed_elsewhere(self, news: News) -> None:
        """Tell the watches that another replica has committed changes; all look at everything if news may be lost."""
        if news.everything:
            for running in self._running.values():
                running.watch.look.ask_for_all()
            return
        for session_no in news.sessions:
            for watch in self._by_session.get(session_no, ()):
                watch.heard(news)

    def promise(self) -> "asyncio.Future[Any]":
        """Return a future for a waiter to wait for; it fails with ``UnavailableError`` when the replica goes away."""
        promise: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._promises.add(promise)
        promise.add_done_callback(self._kept)
        if self._leaving:
            promise.set_exception(_leaving_error())
        return promise

    @contextmanager
    def promised(self) -> "Iterator[asyncio.Future[Any]]":
        """Return a promise that is cancelled when the block ends, for waiters that may leave before they await it."""
        promise = self.promise()
        try:
            yield promise
        finally:
            promise.cancel()

    def _kept(self, promise: "asyncio.Future[Any]") -> None:
        self._promises.discard(promise)
        if not promise.cancelled():
            promise.exception()  # retrieved here, as the waiter may have gone away, and asyncio would log it

    def leave(self) -> None:
        """End all waits, and those to come, with ``UnavailableError``: the replica goes away."""
        self._leaving = True
        self._break_promises(_leaving_error())

    def forget(self) -> None:
        """End all waits with ``UnavailableError``: a new incarnation of the database does not know their numbers."""
        self._break_promises(UnavailableError("the database was started anew, or is another one; ask again"))

    def _break_promises(self, error: UnavailableError) -> None:
        for promise in list(self._promises):
            if not promise.done():
                promise.set_exception(error)

    @contextmanager
    def counts(self, sessions: Sequence[int]) -> Iterator[CountsWatch]:
        """Share the watch on the counts of these sessions until the block ends."""
        numbers = tuple(sorted(sessions))

        def make() -> CountsWatch:
            return CountsWatch(self._database, numbers, self._faults)

        with self._shared(("counts", numbers), numbers, make) as watch:
            yield watch

    @contextmanager
    def keys(self, session_no: int) -> Iterator[KeysWatch]:
        """Share the watch on the results of this session until the block ends."""

        def make() -> KeysWatch:
            return KeysWatch(self._database, session_no, self._data_limit, self._faults, self._fresh)

        with self._shared(("keys", session_no), (session_no,), make) as watch:
            yield watch

    @contextmanager
    def tasks(self, session_no: int) -> Iterator[TasksWatch]:
        """Share the watch on single tasks of this session until the block ends."""

        def make() -> TasksWatch:
            return TasksWatch(self._database, session_no, self._faults)

        with self._shared(("tasks", session_no), (session_no,), make) as watch:
            yield watch

    @contextmanager
    def looks(self, sessions: Sequence[int], look: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Call ``look`` at once, and whenever one of these sessions has changed, until the block ends."""

        async def read(_at_all: bool) -> None:
            await look()

        own = _Own(Look(read, self._faults))
        with self._shared(own, sessions, lambda: own):
            own.look.ask_urgently()
            yield

    @contextmanager
    def _shared(self, name: Hashable, sessions: Sequence[int], make: Callable[[], WatchT]) -> Iterator[WatchT]:
        running = self._running.get(name)
        if running is None:
            running = self._running[name] = self._start(make(), sessions)
        running.users += 1
        try:
            yield running.watch  # type: ignore[misc] # a name stands for one kind of watch
        finally:
            running.users -= 1
            if not running.users:
                del self._running[name]
                self._end(running, sessions)

    def _start(self, watch: Watch, sessions: Sequence[int]) -> _Running:
        assert self._group is not None, "the watcher runs before calls are served"
        for session_no in sessions:
            self._by_session.setdefault(session_no, {})[watch] = None
        return _Running(watch, self._group.create_task(watch.look.run()))

    def _end(self, running: _Running, sessions: Sequence[int]) -> None:
        running.task.cancel()
        for session_no in sessions:
            watches = self._by_session[session_no]
            del watches[running.watch]
            if not watches:
                del self._by_session[session_no]


def _leaving_error() -> UnavailableError:
    return UnavailableError("this replica of the control plane is going away; ask again, of another one")
