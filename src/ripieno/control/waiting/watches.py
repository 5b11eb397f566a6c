"""Watches: what the waiters of one session share.

Each watch remembers who waits, and has one look that serves them all. What this replica
commits itself is handed over without a look where the changes name it.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from ripieno.background import Setback
from ripieno.control.waiting.looking import Look
from ripieno.control.waiting.waiting import Waiter, Waiting
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.cluster.signals import News
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import FinishedKey, finished_results, stopped_tasks
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.counts import read_counts

#: A key asked for so soon after a change of its session is looked up a moment later: as a rule
#: it belongs to a task just submitted, and the look would only delay that (measured: 0.3 ms).
_RECENTLY_S = 0.02
_MOMENT_S = 0.003

#: Keys, and tasks, asked for in one statement.
_AT_ONCE = 1_000

#: Bytes of results that one statement brings; what is beyond is read by those who can take it.
_LARGEST_LOOK_BYTES = 1024 * 1024

Counts = Mapping[TaskStatus, int]
KeysWaiter = Waiter[str, FinishedKey]
TasksWaiter = Waiter[int, tuple[int, TaskStatus]]


class CountsWatch:
    """Waiters for the counts of some sessions."""

    def __init__(self, database: Database, sessions: Sequence[int], faults: Setback) -> None:
        self._database = database
        self._sessions = sessions
        self._waiting: dict[int, tuple[Callable[[Counts], bool], asyncio.Future[Counts]]] = {}
        self._numbers = itertools.count()
        self.look = Look(self._read, faults)

    def changed(self, _changes: Changes) -> None:
        """This replica has changed one of the sessions."""
        self.look.ask()

    def heard(self, _news: News) -> None:
        """Another replica has changed one of the sessions."""
        self.look.ask()

    async def wait(self, enough: Callable[[Counts], bool], answer: "asyncio.Future[Counts]") -> Counts:
        """Wait until the counts are enough, and return them."""
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
    """Waiters for results of one session: each key is delivered once to each who asked."""

    def __init__(self, database: Database, session_no: int, data_limit: int, faults: Setback) -> None:
        self._database = database
        self._session_no = session_no
        self._data_limit = data_limit
        self._waiting: Waiting[str, FinishedKey] = Waiting()
        #: To be looked up: in order, each once.
        self._new: dict[str, None] = {}
        self._changed_at = 0.0
        self._soon: asyncio.TimerHandle | None = None
        self.look = Look(self._read, faults)

    def add(self, waiter: KeysWaiter, keys: Iterable[str]) -> None:
        """Wait for these keys. Those that are final already are delivered by the next look (INV-21)."""
        self._new.update(dict.fromkeys(self._waiting.add(waiter, keys)))
        if time.monotonic() - self._changed_at < _RECENTLY_S:
            # Most likely the results of tasks submitted just now, which will be heard of in a moment.
            # One look for all that are asked for until then, and none if they were heard of.
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_later(_MOMENT_S, self._look_for_new)
        else:
            self.look.ask_urgently()

    def remove(self, waiter: KeysWaiter) -> None:
        """This one waits no more."""
        self._waiting.remove(waiter)

    def changed(self, changes: Changes) -> None:
        """This replica has changed the session; what it completed comes along."""
        self._changed_at = time.monotonic()
        completed = changes.completed.get(self._session_no)
        if completed:
            self._waiting.deliver_of(completed, self._finished)
        self._look_for(changes.aborted.get(self._session_no, ()))
        if self._session_no in changes.unnamed:
            self.look.ask_for_all()

    def heard(self, news: News) -> None:
        """Another replica has changed the session."""
        self._changed_at = time.monotonic()
        self._look_for(news.results.get(self._session_no, ()))
        if self._session_no in news.unnamed:
            self.look.ask_for_all()

    def _look_for(self, keys: Iterable[str]) -> None:
        waited_for = self._waiting.among(keys)
        if waited_for:
            self._new.update(dict.fromkeys(waited_for))
            self.look.ask()

    def _look_for_new(self) -> None:
        self._soon = None
        if any(key in self._waiting for key in self._new):  # the first one, as a rule
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
                self._new.update(dict.fromkeys(keys[start:]))  # still to be looked up
                raise

    def _finished(self, key: str, data: Data) -> FinishedKey:
        if isinstance(data, StoredObject):
            return FinishedKey(key, ResultStatus.COMPLETED, data.size, None, data)
        size = len(data)
        return FinishedKey(key, ResultStatus.COMPLETED, size, data if size <= self._data_limit else None)

    def _deliver(self, finished: Sequence[FinishedKey]) -> None:
        self._waiting.deliver((each.key, each) for each in finished)


class TasksWatch:
    """Waiters for tasks of one session: the status of each is delivered once it is final."""

    def __init__(self, database: Database, session_no: int, faults: Setback) -> None:
        self._database = database
        self._session_no = session_no
        self._waiting: Waiting[int, tuple[int, TaskStatus]] = Waiting()
        #: To be looked up: in order, each once.
        self._new: dict[int, None] = {}
        #: Called when a task is being cancelled, and waited for until its end all the same.
        self._at_cancelling: dict[TasksWaiter, Callable[[], None]] = {}
        self.look = Look(self._read, faults)

    def changed(self, changes: Changes) -> None:
        """This replica has changed the session."""
        self._look_for(changes.ended.get(self._session_no, ()))
        if self._session_no in changes.stopped:
            self.look.ask_for_all()

    def heard(self, news: News) -> None:
        """Another replica has changed the session."""
        self._look_for(news.ended.get(self._session_no, ()))
        if self._session_no in news.stopped:
            self.look.ask_for_all()

    def add(self, waiter: TasksWaiter, tasks: Iterable[int], at_cancelling: Callable[[], None] | None) -> None:
        """Wait for tasks by number."""
        self._new.update(dict.fromkeys(self._waiting.add(waiter, tasks)))
        if at_cancelling is not None:
            self._at_cancelling[waiter] = at_cancelling
        self.look.ask_urgently()

    def remove(self, waiter: TasksWaiter) -> None:
        """This one waits no more."""
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
                self._new.update(dict.fromkeys(tasks[start:]))  # still to be looked up
                raise
            self._waiting.deliver((each[0], each) for each in stopped if each[1].final)
            for task_no, status in stopped:
                if not status.final:
                    for waiter in list(self._waiting.of(task_no)):
                        if waiter in self._at_cancelling:
                            self._at_cancelling[waiter]()
