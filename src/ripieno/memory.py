"""Returning freed memory to the system.

The C library keeps freed memory for later allocations, in pieces that lie between others that are in use.
After a burst of large calls a process would stay as large as it was at its peak (measured: 306 MiB
after 30 calls of 14 MiB, 114 MiB once the freed memory was returned).
"""

import asyncio
import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ripieno.background import Health, Loop

#: How often the process's size is checked, in seconds, and how far above its smallest it may be before memory
#: is returned. Where nothing can be returned a try takes some microseconds.
_EVERY_S = 2.0
_ABOVE_BYTES = 24 * 1024 * 1024

_STATISTICS = Path("/proc/self/statm")


class Memory:
    """Returns freed memory to the system while this process is larger than it has been.

    It works with glibc on Linux and does nothing elsewhere.

    Args:
        health: Where a fault of the loop is noted.
    """

    def __init__(self, health: Health | None = None) -> None:
        self._trim = _trim()
        self._smallest = resident_bytes() if self._trim else 0
        self._loop = Loop("giving memory back", self._look, every_s=_EVERY_S, health=health)

    async def run(self) -> None:
        """Check the size of the process every two seconds, until cancelled."""
        if self._trim is None:
            await asyncio.Event().wait()
        await self._loop.run()

    async def _look(self) -> None:
        assert self._trim is not None, "the loop runs where memory can be given back"
        if resident_bytes() - self._smallest <= _ABOVE_BYTES:
            return
        # In a thread: `malloc_trim` walks all freed memory, which takes some milliseconds for each hundred MiB.
        await asyncio.to_thread(self._trim)
        self._smallest = min(self._smallest, resident_bytes())


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(_STATISTICS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _trim() -> Callable[[], object] | None:
    with suppress(OSError, AttributeError):
        if _STATISTICS.exists():
            trim = ctypes.CDLL(None).malloc_trim
            return lambda: trim(0)
    return None
