"""News: from committed transactions to those who wait, on this replica and the others.

Here at once; to the others by NOTIFY, coalesced: what gathers while one message is being
sent goes into the next.
"""

import asyncio
from collections.abc import Callable

import structlog

from ripieno.domain.errors import RipienoError
from ripieno.store.changes import Changes
from ripieno.store.signals import News, Signals

_log = structlog.get_logger(__name__)

#: Two messages to the other replicas are at least so far apart: they share the work of
#: sending and of looking, and a wait elsewhere ends well within 100 ms all the same.
_PAUSE_S = 0.01


class Notices:
    """Spreads changes.

    Use ``subscribe`` before ``run``; publish after a commit, never before (INV-20).
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._local: list[Callable[[Changes], None]] = []
        self._remote: list[Callable[[News], None]] = []
        self._sessions: set[int] = set()
        self._partitions: set[str] = set()
        self._agents: set[int] = set()
        self._pending = asyncio.Event()

    def subscribe(
        self, *, local: Callable[[Changes], None] | None = None, remote: Callable[[News], None] | None = None
    ) -> None:
        """Register who wants to hear of this replica's changes, of the others', or both."""
        if local is not None:
            self._local.append(local)
        if remote is not None:
            self._remote.append(remote)

    def publish(self, changes: Changes) -> None:
        """Tell what a committed transaction has changed."""
        for subscriber in self._local:
            subscriber(changes)
        self._sessions |= changes.sessions
        self._partitions |= changes.partitions
        self._agents.update(agent_no for agent_no, _ in changes.cancelled)
        if self._sessions or self._partitions or self._agents:
            self._pending.set()

    async def run(self) -> None:
        """Exchange news with the other replicas until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._signals.run(self._hear))
            group.create_task(self._send())

    def _hear(self, news: News) -> None:
        for subscriber in self._remote:
            subscriber(news)

    async def _send(self) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            news = News(frozenset(self._sessions), frozenset(self._partitions), frozenset(self._agents))
            self._sessions.clear()
            self._partitions.clear()
            self._agents.clear()
            if self._signals.alone:
                continue
            try:
                await self._signals.send(news)
            except RipienoError as error:
                # The other replicas lose their connections with us and look at everything
                # when they are back; nothing depends on this message.
                _log.warning("news not sent", error=error.detail)
            await asyncio.sleep(_PAUSE_S)
