"""Group commit: items that arrive while a flush is under way go into the next one.

While no flush is under way an item is flushed at once; under load flushes grow by themselves. There
is no timer, and no threshold to tune but the largest flush.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Gathers items and flushes them together.

    An item whose future is cancelled before its flush begins is dropped: its caller has
    gone away, and nothing is done for it.

    Args:
        flush: Writes items, and returns an answer for each in order. An exception is set on
            the futures of all items of that flush.
        weigh: How much an item counts towards ``largest``.
        largest: A flush takes items up to this weight (always at least one).
        flushes: How many flushes may be under way at once.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        weigh: Callable[[Item], int] = lambda _item: 1,
        largest: int,
        flushes: int = 1,
    ) -> None:
        self._flush = flush
        self._weigh = weigh
        self._largest = largest
        self._flushes = flushes
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._arrived = asyncio.Event()

    def put(self, item: Item) -> "asyncio.Future[Answer]":
        """Enqueue an item for the next flush; return the future of its answer."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._arrived.set()
        return answer

    async def run(self) -> None:
        """Flush items until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._flushes):
                group.create_task(self._run_one())

    async def _run_one(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                continue
            await self._answer(batch)

    def _take(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        weight = 0
        while self._waiting:
            if self._waiting[0][1].done():
                self._waiting.popleft()  # its caller has gone away
                continue
            item_weight = self._weigh(self._waiting[0][0])
            if batch and weight + item_weight > self._largest:
                return batch
            weight += item_weight
            batch.append(self._waiting.popleft())
        self._arrived.clear()
        return batch

    async def _answer(self, batch: list[tuple[Item, "asyncio.Future[Answer]"]]) -> None:
        try:
            answers = await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed on to everyone concerned
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
