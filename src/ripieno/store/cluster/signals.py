"""News between replicas: LISTEN and NOTIFY on one channel.

A message is sent after the commit that it reports, so that a NOTIFY never makes a commit wait.
It names what has changed (sessions, results that became final, tasks that ended), or says that
too much has changed to name it. A message may be lost (a broken connection), so those who wait for
a change also look for it from time to time.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ripieno.background import Setback
from ripieno.domain.errors import RipienoError
from ripieno.domain.outcomes import Ticket
from ripieno.store.database.database import Database
from ripieno.store.database.faults import ConnectionLostError
from ripieno.store.database.queries import Queries

_SQL = Queries("signals")

CHANNEL = "ripieno"

#: PostgreSQL's limit for a payload is 8,000 bytes.
_LONGEST = 7_800
#: Bytes of a message that keys may take, beside the name of the replica and the session.
_LONGEST_KEYS = 7_000

#: Task numbers in one message; each has 19 digits at most.
_MOST_TASKS = 300

#: Attempts in one message: four such numbers each.
_MOST_ATTEMPTS = 75

_COUNT_EVERY_S = 5.0

_APPLICATION = "ripieno news"
_LISTENERS = _SQL.listeners


@dataclass(frozen=True, slots=True)
class News:
    """News: what another replica has changed.

    Attributes:
        sessions: Sessions in which anything has changed, including all that other attributes mention.
        results: Keys of results that became final, by session.
        unnamed: Sessions in which more results became final than could be named.
        ended: Numbers of tasks whose attempts ended, by session.
        stopped: Sessions in which tasks that are not named became final or are being cancelled.
        partitions: Partitions in which tasks became claimable.
        agents: Agents that hold attempts which were cancelled.
        connected: Agents that have connected, each with the epoch of that connection.
        followed: Attempts whose output somebody follows, each with the agent that holds it.
        watched: Sessions of which somebody follows how far their attempts have come.
        everything: True if there was too much to name, or the connection was broken meanwhile: anything may have
            changed.
        gone: Sessions that were purged or deleted.
        due_in_s: In how many seconds, or sooner, a timer is due that was set; None if none was.
    """

    sessions: frozenset[int] = frozenset()
    partitions: frozenset[str] = frozenset()
    agents: frozenset[int] = frozenset()
    results: Mapping[int, Sequence[str]] = field(default_factory=dict)
    unnamed: frozenset[int] = frozenset()
    connected: Mapping[int, int] = field(default_factory=dict)
    ended: Mapping[int, Sequence[int]] = field(default_factory=dict)
    stopped: frozenset[int] = frozenset()
    everything: bool = False
    gone: frozenset[int] = frozenset()
    followed: Sequence[tuple[int, Ticket]] = ()
    watched: frozenset[int] = frozenset()
    due_in_s: float | None = None


class Signals:
    """Sends and receives news. ``run`` receives until it is cancelled.

    Attributes:
        alone: True if no other replica listens, so that news need not be sent. A new replica announces itself
            before it looks at everything for the first time; that the last other replica has gone is noticed
            within some seconds.
        on_listener: Called when another replica has begun to listen. Changes that were not sent because nobody
            listened may have happened after that replica looked at everything.
    """

    def __init__(self, database: Database, replica: str) -> None:
        self._database = database
        self._replica = replica
        self.alone = False
        self.on_listener: Callable[[], None] = lambda: None
        #: Whether another replica was heard since the listeners were counted last.
        self._met = False

    async def send(self, news: News) -> None:
        """Send news to the other replicas; news that does not fit into a message is sent as ``everything``.

        Raises:
            UnavailableError: the database cannot be reached.
        """
        texts = [json.dumps({"from": self._replica, **part}) for part in _parts(news)]
        if news.everything or any(len(text) > _LONGEST for text in texts):
            texts = [json.dumps({"from": self._replica, "everything": True})]
        await self._notify(texts)

    async def _notify(self, texts: Sequence[str]) -> None:
        await self._database.fetch(_SQL.notify, CHANNEL, texts)

    async def run(self, heard: Callable[[News], None]) -> None:
        """Receive news, reconnecting for ever; call ``heard`` for each message of others."""
        setback = Setback("listening to the other replicas")
        while True:
            try:
                await self._listen(heard, setback)
            except RipienoError as error:
                await asyncio.sleep(setback.note(error))

    async def _listen(self, heard: Callable[[News], None], setback: Setback) -> None:
        broken = asyncio.Event()

        def on_message(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            try:
                message = json.loads(str(payload))
                sender, news = message["from"], None if "listens" in message else _decode(message)
            except (ValueError, TypeError, LookupError, AttributeError):
                # A message of another version, or of a stranger, may mean anything.
                sender, news = None, News(everything=True)
            if sender != self._replica:
                self._met = True
                if self.alone:
                    self.alone = False
                    self.on_listener()
                if news is not None:
                    heard(news)

        connection = await self._database.connect(_APPLICATION)
        try:
            connection.on_closed(broken.set)
            await connection.listen(CHANNEL, on_message)
            # From here on the other replicas know that this one listens.
            await self._notify([json.dumps({"from": self._replica, "listens": True})])
            heard(News(everything=True))
            setback.over()
            while not broken.is_set():
                self._met = False
                listeners = await connection.fetchval(_LISTENERS, _APPLICATION)
                # A replica that has announced itself meanwhile may have connected too late to be counted.
                self.alone = listeners <= 1 and not self._met
                with suppress(TimeoutError):
                    async with asyncio.timeout(_COUNT_EVERY_S):
                        await broken.wait()
            raise ConnectionLostError("the connection broke; news may have been missed")
        finally:
            self.alone = False
            await connection.close()


def _parts(news: News) -> Iterator[Mapping[str, object]]:
    """Yield the contents of messages for news: one, and more where results or tasks are named."""
    yield {
        "sessions": sorted(news.sessions),
        "partitions": sorted(news.partitions),
        "agents": sorted(news.agents),
        "unnamed": sorted(news.unnamed),
        "stopped": sorted(news.stopped),
        "connected": sorted(news.connected.items()),
        "gone": sorted(news.gone),
        "due_in_s": news.due_in_s,
    }
    for start in range(0, len(news.followed), _MOST_ATTEMPTS):
        some = news.followed[start : start + _MOST_ATTEMPTS]
        yield {"followed": [[agent_no, *ticket] for agent_no, ticket in some]}
    watched = sorted(news.watched)
    for start in range(0, len(watched), _MOST_TASKS):
        yield {"watched": watched[start : start + _MOST_TASKS]}
    for session_no, tasks in news.ended.items():
        for start in range(0, len(tasks), _MOST_TASKS):
            yield {"session": session_no, "ended": tasks[start : start + _MOST_TASKS]}
    for session_no, keys in news.results.items():
        part: list[str] = []
        size = 0
        for key in keys:
            # The size as JSON writes it: six characters for each that is not ASCII.
            key_size = len(json.dumps(key)) + 2
            if part and size + key_size > _LONGEST_KEYS:
                yield {"session": session_no, "results": part}
                part, size = [], 0
            part.append(key)
            size += key_size
        if part:
            yield {"session": session_no, "results": part}


def _decode(message: Mapping[str, Any]) -> News:
    results = {message["session"]: message["results"]} if "results" in message else {}
    ended = {message["session"]: message["ended"]} if "ended" in message else {}
    return News(
        frozenset(message.get("sessions", [*results, *ended])),
        frozenset(message.get("partitions", ())),
        frozenset(message.get("agents", ())),
        results,
        frozenset(message.get("unnamed", ())),
        dict(message.get("connected", ())),
        ended,
        frozenset(message.get("stopped", ())),
        message.get("everything", False),
        frozenset(message.get("gone", ())),
        tuple((agent_no, Ticket(*ticket)) for agent_no, *ticket in message.get("followed", ())),
        frozenset(message.get("watched", ())),
        None if (due_in_s := message.get("due_in_s")) is None else float(due_in_s),
    )
