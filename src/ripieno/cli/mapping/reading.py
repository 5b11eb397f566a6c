"""``in_thread``: reads an iterator in a thread of its own, for an event loop, a little ahead."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_AHEAD = 2


async def in_thread(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield an iterator's items. The thread is not waited for: it may be in a read of standard input without an end.

    Raises:
        Exception: what the iterator raised.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    def tell(kind: str, what: object) -> bool:
        room.acquire()
        try:
            loop.call_soon_threadsafe(queue.put_nowait, (kind, what))
        except RuntimeError:  # the loop has ended, and with it whoever wanted the items
            return False
        return True

    def read() -> None:
        try:
            for item in items:
                if not tell("item", item):
                    return
        except BaseException as error:  # noqa: BLE001 - the loop raises it
            tell("error", error)
        else:
            tell("end", None)

    threading.Thread(target=read, name="ripieno-inputs", daemon=True).start()
    while True:
        kind, what = await queue.get()
        room.release()
        if kind == "end":
            return
        if kind == "error":
            raise what
        yield what
