"""The agent's own directory on this machine's disk, and whether it serves.

Sockets of workers and large data lie there. Somebody may remove it (a cleaner of temporary files),
its disk may be full, or read-only. That is no fault of any attempt, but a state of the agent:
while the directory takes no files, the agent takes no work (``Dispatcher.fit``).

A look by due time, and one after each error, makes the directory again if it is gone, and writes
and removes a small file. The first look that fails and the first that succeeds again are logged.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from errno import EPERM
from io import RawIOBase
from pathlib import Path

from ripieno.agent.data.scratch import hold
from ripieno.background import Health, Loop
from ripieno.domain.errors import UnavailableError
from ripieno.objects import is_readable, prove

#: Between two looks while all is well.
LOOK_S = 5.0
#: A disk that does not take so much is full.
PROBE_BYTES = 256 * 1024

_PART = "the agent's scratch directory"


class Scratch:
    """One directory. Belongs to the event loop's thread.

    Args:
        changed: Called with whether it serves when that changes.

    Attributes:
        proven: The directory, with a proof for workers that they have the same one before them.

    Raises:
        OSError: it cannot be written at the start.
    """

    def __init__(self, path: Path, changed: Callable[[bool], None]) -> None:
        self.path = path
        self.proven = prove(path, "proof")
        #: The directory's number on its disk, as long as it is the one that we hold, and the lock on another.
        self._held = path.stat().st_ino
        self._lock: int | None = None
        self._health = Health(changed)
        self._loop = Loop(_PART, self._look, every_s=LOOK_S, health=self._health)

    async def run(self) -> None:
        """Look by due time. Never returns by itself."""
        await self._loop.run()

    async def serves_after(self, error: OSError) -> bool:
        """Whether the directory takes files although something in it has just failed.

        If it does, ``error`` was a passing one (the directory was gone and is here again), or
        what was to be written is too large for the room that is left.
        """
        try:
            await self._look()
        except UnavailableError as fault:
            self._health.fault(_PART, fault)
            self._loop.wake()
            return False
        return True

    async def room(self) -> tuple[int, int]:
        """Bytes that are free for us on its disk, and of the disk in all.

        Raises:
            OSError: it cannot be asked.
        """
        status = await asyncio.to_thread(os.statvfs, self.path)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    async def _look(self) -> None:
        try:
            await asyncio.to_thread(self._check)
        except OSError as error:
            raise UnavailableError(
                f"{self.path} takes no files ({error.strerror or error}); no work is taken until it does"
            ) from error
        self._health.works(_PART)

    def _check(self) -> None:
        path = self.path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise PermissionError(EPERM, "it belongs to another user")
        if status.st_ino != self._held:
            self._hold(status.st_ino)
        if not is_readable(self.proven):
            (path / self.proven.proof_file).write_text(self.proven.proof)
        probe = path / "probe"
        try:
            with probe.open("wb", buffering=0) as file:
                write_all(file, bytes(PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)

    def _hold(self, number: int) -> None:
        """Lock the directory that stands where ours was, or the next agent takes it for a leftover."""
        with suppress(OSError):  # a file system without locks: nobody sweeps there
            former, self._lock = self._lock, hold(self.path)
            if former is not None:
                os.close(former)
        self._held = number


def write_all(file: RawIOBase, data: bytes | bytearray) -> None:
    """Write all of it: a disk that becomes full takes a part first.

    By the file and not by its descriptor, which may be another file's if it is closed meanwhile.

    Raises:
        OSError: the disk does not take it.
        ValueError: the file was closed by another thread.
    """
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]
