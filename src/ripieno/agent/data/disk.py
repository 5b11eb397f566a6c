"""The agent's scratch directory on this machine's disk, and checks whether it can be written.

It holds sockets of workers and large data. A cleaner of temporary files may remove it, and its
disk may be full or read-only. That is no fault of any attempt, but a state of the agent:
while the directory takes no files, the agent takes no work (``Dispatcher.fit``).

A check at regular times, and one after each error, makes the directory again if it is gone, and writes
and removes a small file. The first check that fails and the first that succeeds again are logged.
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

#: Seconds between two checks while the directory can be written.
LOOK_S = 5.0
#: Bytes that a check writes; a disk that does not take them counts as full.
PROBE_BYTES = 256 * 1024

_PART = "the agent's scratch directory"


class Scratch:
    """The scratch directory and its health. Belongs to the event loop's thread.

    Args:
        path: The directory, which exists.
        changed: Called with whether the directory takes files when that changes.

    Attributes:
        proven: The directory, with a proof by which workers see that they access the same one.

    Raises:
        OSError: if the directory cannot be written at the start.
    """

    def __init__(self, path: Path, changed: Callable[[bool], None]) -> None:
        self.path = path
        self.proven = prove(path, "proof")
        #: Inode of the directory that we have locked, and our lock if we had to make the directory again.
        self._held = path.stat().st_ino
        self._lock: int | None = None
        self._health = Health(changed)
        self._loop = Loop(_PART, self._look, every_s=LOOK_S, health=self._health)

    async def run(self) -> None:
        """Check the directory at regular times. Runs until it is cancelled."""
        await self._loop.run()

    async def serves_after(self, error: OSError) -> bool:
        """Check whether the directory takes files after an operation in it failed with ``error``.

        If it does, the error has passed (the directory was gone and is made again), or the data to be
        written is too large for the room that is left.
        """
        try:
            await self._look()
        except UnavailableError as fault:
            self._health.fault(_PART, fault)
            self._loop.wake()
            return False
        return True

    async def room(self) -> tuple[int, int]:
        """Return the bytes that are free for us on the directory's disk, and the size of that disk.

        Raises:
            OSError: if the file system cannot be queried.
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
        """Lock a directory that replaced ours, so that no other agent removes it as a leftover."""
        with suppress(OSError):  # on a file system without locks no agent removes leftovers
            former, self._lock = self._lock, hold(self.path)
            if former is not None:
                os.close(former)
        self._held = number


def write_all(file: RawIOBase, data: bytes | bytearray) -> None:
    """Write all of ``data`` to an unbuffered file: a disk that becomes full writes only a part at first.

    The file object is used and not its descriptor, which may be another file's if this one is closed meanwhile.

    Raises:
        OSError: if the disk does not take the data.
        ValueError: if the file was closed by another thread.
    """
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]
