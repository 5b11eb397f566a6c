"""Watches: each serves all waiters for one kind of thing in one session, or one set of sessions.

A watch remembers its waiters, and has one look that serves them all. Results that this replica
commits itself are delivered without a look where the changes carry them.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from ripieno.background import Setback
from ripieno.control.waiting.fresh_keys import FreshKeys
from ripieno.control.waiting.looking import Look
from ripieno.control.waiting.waiting import Waiter, Waiting
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.cluster.signals import News
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import FinishedKey, finished_results, stopped_tasks
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.counts import read_counts

#: A key that is asked for within ``_RECENTLY_S`` of a change of its session is looked up ``_MOMENT_S`` later: as a rule
#: it belongs to a task just submitted, and the look would only delay that task (measured: 0.3 ms).
_RECENTLY_S = 0.02
_MOMENT_S = 0.003

#: The most keys, or tasks, in one statement.
_AT_ONCE = 1_000

#: The most bytes of results that one statement brings; the others are read by the waiters that have room for them.
_LARGEST_LOOK_BYTES = 1024 * 1024

Counts = Mapping[TaskStatus, int]
KeysWaiter = Waiter[str, FinishedKey]
TasksWaiter = Waiter[int, tuple[int, TaskStatus]]


class CountsWatch:
    """The watch on the task counts of some sessions."""

    def __init__(self, database: Database, sessions: Sequence[int], faults: Setback) -> None:
        self._database = database
        self._sessions = sessions
        self._waiting: dict[int, tuple[Callable[[Counts], bool], asyncio.Future[Counts]]] = {}
        self._numbers = itertools.count()
        self.look = Look(self._read, faults)

    def changed(self, _changes: Changes) -> None:
        """Ask for a look: this replica has changed one of the sessions."""
        self.look.ask()

    def heard(self, _news: News) -> None:
        """Ask for a look: another replica has changed one of the sessions."""
        self.look.ask()

    async def wait(self, enough: Callable[[Counts], bool], answer: "asyncio.Future[Counts]") -> Counts:
        """Wait until ``enough`` is true of the counts, and return them.

        Args:
            answer: The future to wait for: a promise of the watcher.
        """
        number = next(self._numbers)
        self._waiting[number] = (enough, answer)
        self.look.ask_urgently()
        try:
            return await answer
        finally:
            del self._waiting[number]

    async def _read(self, _at_all: bool) -> None:
        counts = await read_counts(self._database, self._sessions)
        for enough, answer in self._waiting.values():
            if not answer.done() and enough(counts):
                answer.set_result(counts)


class KeysWatch:
    """The watch on the results of one session: each key is delivered once to each waiter that asked for it."""

    def __init__(self, database: Database, session_no: int, data_limit: int, faults: Setback, fresh: FreshKeys) -> None:
        self._database = database
        self._session_no = session_no
        self._fresh = fresh
        self._data_limit = data_limit
        self._waiting: Waiting[str, FinishedKey] = Waiting()
        #: Keys to be looked up, in order, each once.
        self._new: dict[str, None] = {}
        self._changed_at = 0.0
        self._soon: asyncio.TimerHandle | None = None
        self.look = Look(self._read, faults)

    def add(self, waiter: KeysWaiter, keys: Iterable[str]) -> None:
        """Add keys that a waiter waits for. Results that are final already are delivered by the next look (INV-21).

        No look is made for those that are known to be open.
        """
        unknown = self._fresh.others(self._session_no, self._waiting.add(waiter, keys))
        if not unknown:
            return
        self._new.update(dict.fromkeys(unknown))
        if time.monotonic() - self._changed_at < _RECENTLY_S:
            # Most likely these are results of tasks submitted just now, whose changes will name them in a moment. Until
            # then no look is made; then there is one for all keys asked for, or none if all were delivered.
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_later(_MOMENT_S, self._look_for_new)
        else:
            self.look.ask_urgently()

    def remove(self, waiter: KeysWaiter) -> None:
        """Remove a waiter and all keys that it waits for."""
        self._waiting.remove(waiter)

    def changed(self, changes: Changes) -> None:
        """Deliver the results that this replica has completed, and look for those it has aborted."""
        self._changed_at = time.monotonic()
        completed = changes.completed.get(self._session_no)
        if completed:
            self._waiting.deliver_of(completed, self._finished)
        self._look_for(changes.aborted.get(self._session_no, ()))
        if self._session_no in changes.unnamed or self._session_no in changes.gone:
            self.look.ask_for_all()

    def heard(self, news: News) -> None:
        """Look for the results that another replica has completed or aborted; for all if it does not name them."""
        self._changed_at = time.monotonic()
        self._look_for(news.results.get(self._session_no, ()))
        if self._session_no in news.unnamed or self._session_no in news.gone:
            self.look.ask_for_all()

    def _look_for(self, keys: Iterable[str]) -> None:
        waited_for = self._waiting.among(keys)
        if waited_for:
            self._new.update(dict.fromkeys(waited_for))
            self.look.ask()

    def _look_for_new(self) -> None:
        self._soon = None
        if any(key in self._waiting for key in self._new):  # as a rule the first key decides
            self.look.ask_urgently()
        else:
            self._new.clear()

    async def _read(self, at_all: bool) -> None:
        asked, self._new = self._new, {}
        keys = list(self._waiting if at_all else asked)
        for start in range(0, len(keys), _AT_ONCE):
            part = self._waiting.among(keys[start : start + _AT_ONCE])
            if not part:
                continue
            try:
                self._deliver(
                    await finished_results(
                        self._database, self._session_no, part, self._data_limit, _LARGEST_LOOK_BYTES
                    )
                )
            except Exception:
                self._new.update(dict.fromkeys(keys[start:]))  # the next try looks them up
                raise

    def _finished(self, key: str, data: Data) -> FinishedKey:
        if isinstance(data, StoredObject):
            return FinishedKey(key, ResultStatus.COMPLETED, data.size, None, data)
        size = len(data)
        return FinishedKey(key, ResultStatus.COMPLETED, size, data if size <= self._data_limit else None)

    def _deliver(self, finished: Sequence[FinishedKey]) -> None:
        self._waiting.deliver((each.key, each) for each in finished)


class TasksWatch:
    """The watch on single tasks of one session: the final status of each is delivered once to each waiter."""

    def __init__(self, database: Database, session_no: int, faults: Setback) -> None:
        self._database = database
        self._session_no = session_no
        self._waiting: Waiting[int, tuple[int, TaskStatus]] = Waiting()
        #: Numbers of tasks to be looked up, in order, each once.
        self._new: dict[int, None] = {}
        #: Functions to call when a task of the waiter is being cancelled; the wait for the task's end goes on all the same.
        self._at_cancelling: dict[TasksWaiter, Callable[[], None]] = {}
        self.look = Look(self._read, faults)

    def changed(self, changes: Changes) -> None:
        """Look for the tasks that this replica has ended; for all if it does not name them."""
        self._look_for(changes.ended.get(self._session_no, ()))
        if self._session_no in changes.stopped or self._session_no in changes.gone:
            self.look.ask_for_all()

    def heard(self, news: News) -> None:
        """Look for the tasks that another replica has ended; for all if it does not name them."""
        self._look_for(news.ended.get(self._session_no, ()))
        if self._session_no in news.stopped or self._session_no in news.gone:
            self.look.ask_for_all()

    def add(self, waiter: TasksWaiter, tasks: Iterable[int], at_cancelling: Callable[[], None] | None) -> None:
        """Add tasks, by number, that a waiter waits for.

        Args:
            at_cancelling: Called when one of the tasks is being cancelled, maybe several times.
        """
        self._new.update(dict.fromkeys(self._waiting.add(waiter, tasks)))
        if at_cancelling is not None:
            self._at_cancelling[waiter] = at_cancelling
        self.look.ask_urgently()

    def remove(self, waiter: TasksWaiter) -> None:
        """Remove a waiter and all tasks that it waits for."""
        self._at_cancelling.pop(waiter, None)
        self._waiting.remove(waiter)

    def _look_for(self, tasks: Iterable[int]) -> None:
        waited_for = self._waiting.among(tasks)
        if waited_for:
            self._new.update(dict.fromkeys(waited_for))
            self.look.ask()

    async def _read(self, at_all: bool) -> None:
        asked, self._new = self._new, {}
        tasks = list(self._waiting) if at_all else self._waiting.among(asked)
        for start in range(0, len(tasks), _AT_ONCE):
            try:
                stopped = await stopped_tasks(self._database, tasks[start : start + _AT_ONCE])
            except Exception:
                self._new.update(dict.fromkeys(tasks[start:]))  # the next try looks them up
                raise
            self._waiting.deliver((each[0], each) for each in stopped if each[1].final)
            for task_no, status in stopped:
                if not status.final:
                    for waiter in list(self._waiting.of(task_no)):
                        if waiter in self._at_cancelling:
                            self._at_cancelling[waiter]()
