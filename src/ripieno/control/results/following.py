"""The results that one ``Follow`` stream asked for, and those on their way to its client.

Results that are final wait here, with their bytes, up to a bound (``control.results.room``). Beyond
it the follower remembers their keys alone and reads the results from the store once the client has
taken those before them. So a client that reads slowly, or not at all, delays itself alone.

A client that has not taken a message for a second is *stalled*: of all other results only the keys
are kept, so that their room is there for clients that read. The message itself stays in memory, so
messages are the smaller the more streams there are.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ripieno.control.results.room import STREAM_BYTES, Room
from ripieno.control.waiting.watches import KeysWaiter, KeysWatch
from ripieno.domain.statuses import ResultStatus
from ripieno.store.reading.lookup import FinishedKey

#: About the most bytes in one message, and of results read from the store at a time.
LARGEST_MESSAGE_BYTES = 512 * 1024
#: A client that has not taken a message for this many seconds is stalled.
_STALLED_AFTER_S = 1.0
#: Bounds of the number of keys read from the store at a time, which is twice as many as the last read brought.
_FEWEST_KEYS = 16
_MOST_KEYS = 1_000
#: Estimated bytes of memory that a result takes beside its key and its data.
_ENTRY_BYTES = 200

#: Function that reads results of the session; called with their keys and the most bytes of data to read.
Read = Callable[[Sequence[str], int], Awaitable[Sequence[FinishedKey]]]


def weight(finished: FinishedKey) -> int:
    """Return about how many bytes a result takes in memory and in a message."""
    return _ENTRY_BYTES + len(finished.key) + len(finished.data or b"")


class Follower:
    """Collects the results that one stream asked for, and hands them out a message at a time.

    Args:
        watch: The watch on the session's results.
        read: Reads results from the store that there was no room for.
        room: The replica's room for followed results.
        bare: Whether the client wants no data, only keys and statuses.
    """

    def __init__(self, watch: KeysWatch, read: Read, room: Room, *, bare: bool) -> None:
        self._watch = watch
        self._read = read
        self._room = Room(STREAM_BYTES, within=room)
        self._bare = bare
        self._waiter = KeysWaiter(self._deliver)
        self._ready: deque[FinishedKey] = deque()
        self._unread: deque[str] = deque()
        #: Bytes that ``take`` has handed out and ``written`` has not confirmed.
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
        """How many keys the client asked for that were not handed out by ``take`` yet."""
        return len(self._waiter.asked) + len(self._ready) + len(self._unread)

    def ask(self, keys: Iterable[str]) -> None:
        """Follow more keys of the session."""
        asked = list(keys)
        self._watch.add(self._waiter, (key for key in asked if "\0" not in key))
        # No text in the store can contain NUL, so nobody will ever announce such a key.
        self._deliver([FinishedKey(key, ResultStatus.NAMED, 0, None) for key in asked if "\0" in key])

    @property
    def _message_bytes(self) -> int:
        return min(LARGEST_MESSAGE_BYTES, self._room.share)

    def complete(self) -> None:
        """Note that the client asks for no more keys: ``take`` returns nothing once all are handed out."""
        self._complete = True
        self._news.set()

    def stop(self) -> None:
        """End the stream early: ``take`` returns nothing from here on."""
        self._stopped = True
        self._news.set()

    def close(self) -> None:
        """Release what a stream that has ended holds: its waits, its results and its room."""
        self._watch.remove(self._waiter)
        self._let_go()
        self._unread.clear()
        self._room.close()
        if self._stalling is not None:
            self._stalling.cancel()

    async def take(self) -> list[FinishedKey]:
        """Wait for results and take as many as a message holds; return an empty list when there will be no more.

        Room is held for them until ``written`` is called, which must happen before the next ``take``.
        """
        while not self._stopped:
            # Take ready results and those left in the store by turns, so that neither kind is put off for ever.
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
        """Note that the message with the results last taken was written, and give their room back."""
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
        """Keep only keys of all results, and give all room back, even that of the message being written."""
        self._unread.extendleft(each.key for each in reversed(self._ready))
        self._ready.clear()
        self._room.give_back(self._room.held)
        self._taken_bytes = 0

    def _deliver(self, finished: Sequence[FinishedKey]) -> None:
        mine_all = [each._replace(data=None, unread=False) for each in finished] if self._bare else finished
        whole = not self._stalled and not any(mine.unread for mine in mine_all)
        if whole and self._room.take(sum(map(weight, mine_all))):  # usual case: there is room for all
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
        # Keys whose results were final and are no longer, because the database has lost a commit, are waited for again.
        self._watch.add(self._waiter, left.keys() - {each.key for each in found})
        self._unread.extendleft(key for key in reversed(left) if key not in self._waiter.asked)
        return taken
