"""One client that follows results: what it asked for, and what is on its way to it.

Results that are final wait here, with their bytes, up to a bound (``control.results.room``). Beyond
it the follower remembers their keys alone and reads them from the store once the client has
taken what is before them. So a client that reads slowly, or not at all, holds itself up.

A client that has not taken a message for a second is a *stalled* one: all but that message is
forgotten, up to the keys, so that its room is there for those who read. That message stays in
memory, so messages are the smaller the more streams there are.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ripieno.control.results.room import STREAM_BYTES, Room
from ripieno.control.waiting.watches import KeysWaiter, KeysWatch
from ripieno.domain.statuses import ResultStatus
from ripieno.store.reading.lookup import FinishedKey

#: Bytes in one message, about; and of what is read from the store at a time.
LARGEST_MESSAGE_BYTES = 512 * 1024
#: A client that has not taken a message for so long is stalled.
_STALLED_AFTER_S = 1.0
#: Keys that are read from the store at a time: twice as many as came with the last ones, within these bounds.
_FEWEST_KEYS = 16
_MOST_KEYS = 1_000
#: What a result takes beside its key and its bytes.
_ENTRY_BYTES = 200

#: Reads results of the session: their keys, and how many bytes at the most.
Read = Callable[[Sequence[str], int], Awaitable[Sequence[FinishedKey]]]


def weight(finished: FinishedKey) -> int:
    """What it takes in memory and in a message, about."""
    return _ENTRY_BYTES + len(finished.key) + len(finished.data or b"")


class Follower:
    """Results that one stream asked for.

    Args:
        watch: Of the session.
        read: Reads from the store what there was no room for.
        room: Of the replica.
        bare: The client wants no bytes.
    """

    def __init__(self, watch: KeysWatch, read: Read, room: Room, *, bare: bool) -> None:
        self._watch = watch
        self._read = read
        self._room = Room(STREAM_BYTES, within=room)
        self._bare = bare
        self._waiter = KeysWaiter(self._deliver)
        self._ready: deque[FinishedKey] = deque()
        self._unread: deque[str] = deque()
        #: What ``take`` has given out and ``written`` has not confirmed.
        self._taken_bytes = 0
        self._keys_at_once = _FEWEST_KEYS
        self._stalled = False
        self._stalling: asyncio.TimerHandle | None = None
        self._ready_first = True
        self._complete = False
        self._stopped = False
        self._news = asyncio.Event()

    @property
    def unanswered(self) -> int:
        """How many keys are held for this client in any way."""
        return len(self._waiter.asked) + len(self._ready) + len(self._unread)

    def ask(self, keys: Iterable[str]) -> None:
        """Follow more keys."""
        asked = list(keys)
        self._watch.add(self._waiter, (key for key in asked if "\0" not in key))
        # No text in the store contains it, so nobody will ever announce such a key.
        self._deliver([FinishedKey(key, ResultStatus.NAMED, 0, None) for key in asked if "\0" in key])

    @property
    def _message_bytes(self) -> int:
        return min(LARGEST_MESSAGE_BYTES, self._room.share)

    def complete(self) -> None:
        """No more keys will come."""
        self._complete = True
        self._news.set()

    def stop(self) -> None:
        """Nothing more is wanted: ``take`` returns nothing from here on."""
        self._stopped = True
        self._news.set()

    def close(self) -> None:
        """The stream is over."""
        self._watch.remove(self._waiter)
        self._let_go()
        self._unread.clear()
        self._room.close()
        if self._stalling is not None:
            self._stalling.cancel()

    async def take(self) -> list[FinishedKey]:
        """Wait for results and take what a message holds; empty when there will be no more.

        Room is held for them until ``written`` is called, which has to be before the next ``take``.
        """
        while not self._stopped:
            # In turns: neither what comes now nor what has been waiting in the store is put off for ever.
            self._ready_first = not self._ready_first
            if self._ready and (self._ready_first or not self._unread):
                return self._handed_out(self._take_ready())
            if self._unread:
                if taken := await self._read_on():
                    return self._handed_out(taken)
                continue
            if self._complete and not self._waiter.asked:
                return []
            self._news.clear()
            await self._news.wait()
        return []

    def written(self) -> None:
        """The client has what was taken."""
        if self._stalling is not None:
            self._stalling.cancel()
        self._stalled = False
        self._room.give_back(self._taken_bytes)
        self._taken_bytes = 0

    def _handed_out(self, taken: list[FinishedKey]) -> list[FinishedKey]:
        self._stalling = asyncio.get_running_loop().call_later(_STALLED_AFTER_S, self._stall)
        return taken

    def _stall(self) -> None:
        self._stalled = True
        self._let_go()

    def _let_go(self) -> None:
        """Hold keys alone. The message that is being written stays in memory, but takes nobody's room."""
        self._unread.extendleft(each.key for each in reversed(self._ready))
        self._ready.clear()
        self._room.give_back(self._room.held)
        self._taken_bytes = 0

    def _deliver(self, finished: Sequence[FinishedKey]) -> None:
        mine_all = [each._replace(data=None, unread=False) for each in finished] if self._bare else finished
        whole = not self._stalled and not any(mine.unread for mine in mine_all)
        if whole and self._room.take(sum(map(weight, mine_all))):  # as a rule there is room for all of them
            self._ready.extend(mine_all)
            self._news.set()
            return
        for mine in mine_all:
            if not mine.unread and not self._stalled and self._room.take(weight(mine)):
                self._ready.append(mine)
            else:
                self._unread.append(mine.key)
        self._news.set()

    def _take_ready(self) -> list[FinishedKey]:
        taken: list[FinishedKey] = []
        size, most = 0, self._message_bytes
        while self._ready:
            added = weight(self._ready[0])
            if taken and size + added > most:
                break
            size += added
            taken.append(self._ready.popleft())
        self._taken_bytes = size
        return taken

    async def _read_on(self) -> list[FinishedKey]:
        keys = list(itertools.islice(self._unread, self._keys_at_once))
        found = await self._read(keys, min(self._message_bytes, self._room.free))
        taken = [each for each in found if self._bare or not each.unread]
        if self._bare:
            taken = [each._replace(data=None, unread=False) for each in taken]
        self._taken_bytes = sum(map(weight, taken))
        self._room.force(self._taken_bytes)
        self._keys_at_once = max(_FEWEST_KEYS, min(2 * len(taken), _MOST_KEYS))
        for _ in keys:
            self._unread.popleft()
        left = dict.fromkeys(keys)
        for each in taken:
            left.pop(each.key, None)
        # Final once and not any more: the database has lost a commit. It is waited for again.
        self._watch.add(self._waiter, left.keys() - {each.key for each in found})
        self._unread.extendleft(key for key in reversed(left) if key not in self._waiter.asked)
        return taken
