"""``Window``: what is submitted and not yet written, and what of it is held in memory."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum, auto

from ripieno.cli.mapping.inputs import Input

#: The most batches between the first that is not written and the last that is submitted. Beyond 64,000 tasks
#: a cluster is kept busy by more only if a single one of them takes hours.
BATCHES = 64
#: The most bytes of their inputs.
INPUT_BYTES = 64 * 1024 * 1024
#: The most bytes of results that wait for earlier ones. What comes beyond is dropped here, and asked for again.
HELD_BYTES = 64 * 1024 * 1024


class State(Enum):
    """What is known of the task of an input."""

    WAITING = auto()
    DONE = auto()
    FAILED = auto()


@dataclass(slots=True)
class Entry:
    """An input and what became of it.

    Attributes:
        given: The input.
        task_id: The id of its task, which is the key of the result, too.
        data: The result, if it is held here.
        is_large: Whether the result is too large to be pushed.
        reason: Why it failed.
        attempts: How many attempts failed.
    """

    given: Input
    task_id: str
    state: State = State.WAITING
    data: bytes | None = None
    is_large: bool = False
    reason: str = ""
    attempts: int = 0


@dataclass(slots=True, eq=False)
class Batch:
    """Inputs that are submitted together, in order."""

    entries: list[Entry]
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def input_bytes(self) -> int:
        """The size of the inputs; in characters, which is near enough."""
        return sum(len(entry.given.text) for entry in self.entries)


class Window:
    """The batches that are under way, bounded (MAP-2)."""

    def __init__(self) -> None:
        self._batches = 0
        self._input_bytes = 0
        self._held_bytes = 0
        self._room = asyncio.Event()

    async def enter(self, batch: Batch) -> None:
        """Wait until there is room for one more batch, and take it; the first one always has room."""
        while self._batches and (self._batches >= BATCHES or self._input_bytes >= INPUT_BYTES):
            self._room.clear()
            await self._room.wait()
        self._batches += 1
        self._input_bytes += batch.input_bytes

    def leave(self, batch: Batch) -> None:
        """Give back the room of a batch that is written."""
        self._batches -= 1
        self._input_bytes -= batch.input_bytes
        self._room.set()

    def hold(self, entry: Entry, data: bytes) -> None:
        """Keep a result if there is room; its entry is without data otherwise."""
        if self._held_bytes + len(data) <= HELD_BYTES:
            entry.data = data
            self._held_bytes += len(data)

    def release(self, entry: Entry) -> bytes | None:
        """Return the result of an entry if it was kept, and forget it."""
        data, entry.data = entry.data, None
        if data is not None:
            self._held_bytes -= len(data)
        return data
