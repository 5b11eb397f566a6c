"""Notices: tell subscribers on this replica and on the others what committed transactions have changed.

Subscribers here are called at once. The other replicas are told by NOTIFY, coalesced: changes that
gather while one message is being sent go into the next. What gathers is bounded, however long the
database takes no message: where there is more, less detail is told, and in the end only that anything
may have changed.
"""

import asyncio
from collections.abc import Callable

from ripieno.background import Setback
from ripieno.domain.outcomes import Ticket
from ripieno.store.cluster.signals import News, Signals
from ripieno.store.sessions.changes import Changes, sooner

#: Seconds between two messages to the other replicas at least. More changes then share the work of
#: sending and of looking, and a wait elsewhere ends well within 100 ms all the same.
_PAUSE_S = 0.01

#: The most bytes of keys of results and numbers of tasks that gather; of those beyond only the session is told.
_MOST_NAMED_BYTES = 256 * 1024
_TASK_BYTES = 10

#: The most sessions, partitions and agents that are named at a time. More would not fit into one message;
#: then the other replicas are told that anything may have changed.
_MOST_NAMED = 2_000


class Notices:
    """Publishes changes to subscribers on this replica and on the others.

    Call ``subscribe`` before ``run``; publish after a commit, never before (INV-20).

    Attributes:
        named_bytes: Bytes of the names of results and tasks that gather for the next messages.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._local: list[Callable[[Changes], None]] = []
        self._remote: list[Callable[[News], None]] = []
        self._sessions: set[int] = set()
        self._partitions: set[str] = set()
        self._agents: set[int] = set()
        self._connected: dict[int, int] = {}
        self._followed: list[tuple[int, Ticket]] = []
        self._watched: set[int] = set()
        self._results: dict[int, list[str]] = {}
        self.named_bytes = 0
        self._unnamed: set[int] = set()
        self._ended: dict[int, list[int]] = {}
        self._stopped: set[int] = set()
        self._gone: set[int] = set()
        self._due_in_s: float | None = None
        self._everything = False
        self._pending = asyncio.Event()
        signals.on_listener = self._tell_everything

    def subscribe(
        self, *, local: Callable[[Changes], None] | None = None, remote: Callable[[News], None] | None = None
    ) -> None:
        """Register functions to be called with this replica's changes, with the news of the others, or both."""
        if local is not None:
            self._local.append(local)
        if remote is not None:
            self._remote.append(remote)

    def publish(self, changes: Changes) -> None:
        """Publish what a committed transaction has changed: to subscribers here at once, to the other replicas soon."""
        for subscriber in self._local:
            subscriber(changes)
        if self._everything:
            return  # the other replicas will be told that anything may have changed
        self._sessions |= changes.sessions
        self._partitions |= changes.partitions
        self._agents.update(agent_no for agent_no, _ in changes.cancelled)
        self._connected |= changes.connected
        self._gone |= changes.gone
        self._due_in_s = sooner(self._due_in_s, changes.due_in_s)
        if not self._signals.alone:
            self._followed = (self._followed + changes.followed)[-_MOST_NAMED:]
            if len(self._watched) < _MOST_NAMED:  # those who follow say so again
                self._watched |= changes.watched
        self._name_results(changes)
        self._name_tasks(changes)
        if self.named > _MOST_NAMED:
            self._take()
            self._everything = True
        if self.named or self._followed or self._watched or self._everything:
            self._pending.set()

    def _tell_everything(self) -> None:
        """Tell the other replicas that anything may have changed."""
        self._everything = True
        self._pending.set()

    @property
    def named(self) -> int:
        """How many sessions, partitions and agents gather for the next messages."""
        named = len(self._sessions) + len(self._partitions) + len(self._agents) + len(self._connected)
        return named + len(self._gone)

    def _name_results(self, changes: Changes) -> None:
        self._unnamed |= changes.unnamed
        for final in (changes.completed, changes.aborted):
            for session_no, keys in final.items():
                if self._may_name(sum(map(len, keys))):
                    self._results.setdefault(session_no, []).extend(keys)
                else:
                    self._unnamed.add(session_no)

    def _name_tasks(self, changes: Changes) -> None:
        self._stopped |= changes.stopped
        for session_no, tasks in changes.ended.items():
            if self._may_name(_TASK_BYTES * len(tasks)):
                self._ended.setdefault(session_no, []).extend(tasks)
            else:
                self._stopped.add(session_no)

    def _may_name(self, size: int) -> bool:
        """Return whether there is room for ``size`` bytes of names; if so, they are counted."""
        # While this replica is alone nobody needs the names; only sessions gather, as another may come before the sending.
        if self._signals.alone or self.named_bytes + size > _MOST_NAMED_BYTES:
            return False
        self.named_bytes += size
        return True

    def _take(self) -> News:
        news = News(
            frozenset(self._sessions),
            frozenset(self._partitions),
            frozenset(self._agents),
            self._results,
            frozenset(self._unnamed),
            self._connected,
            self._ended,
            frozenset(self._stopped),
            self._everything,
            frozenset(self._gone),
            self._followed,
            frozenset(self._watched),
            self._due_in_s,
        )
        for gathered in (self._sessions, self._partitions, self._agents, self._unnamed, self._stopped, self._gone):
            gathered.clear()
        self._results, self._ended, self.named_bytes = {}, {}, 0
        self._connected, self._followed, self._watched = {}, [], set()
        self._due_in_s = None
        self._everything = False
        return news

    async def run(self) -> None:
        """Exchange news with the other replicas until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._signals.run(self._hear))
            group.create_task(self._send())

    def _hear(self, news: News) -> None:
        for subscriber in self._remote:
            subscriber(news)

    async def _send(self) -> None:
        setback = Setback("telling the other replicas")
        lost = False
        while True:
            if not lost:
                await self._pending.wait()
            self._pending.clear()
            gathered = self._take()
            news = News(everything=True) if lost else gathered
            if self._signals.alone:
                lost = False
                continue
            try:
                await self._signals.send(news)
            except Exception as error:  # noqa: BLE001 - nothing that a message meets ends the telling of news
                # The content of the message is lost, so the next one says that anything may have changed.
                lost = True
                await asyncio.sleep(setback.note(error))
            else:
                lost = False
                setback.over()
            await asyncio.sleep(_PAUSE_S)
