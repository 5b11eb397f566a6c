"""An agent's own directory: locked while the agent lives, and removed by the next agent if it was killed."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ripieno.sockets import is_fit_for_sockets, parent_for_sockets

PREFIX = "ripieno-agent-"
#: Longest name of a worker's socket, with the slot and the number of the worker in that slot.
_LONGEST_NAME = "worker-0000-000000000.sock"

_log = logging.getLogger(__name__)


@contextmanager
def locked_directory(parent: Path | None) -> Iterator[Path]:
    """Make a directory below ``parent`` (default: where temporary files go) and remove it at the end.

    The directory is locked by the kernel (``flock``) as long as this process lives, however it ends;
    cleaners of temporary files heed such a lock too. Unlocked ones of this user are leftovers of
    agents that were killed, and are removed first.

    Raises:
        OSError: if no directory can be made there.
    """
    where = (parent if parent is not None else Path(tempfile.gettempdir())).absolute()
    where.mkdir(parents=True, exist_ok=True)
    sweep(where)
    path, lock = _fresh(where)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def sweep(where: Path) -> None:
    """Remove the directories of this user's agents that were killed."""
    for path in where.glob(f"{PREFIX}*"):
        try:
            if path.lstat().st_uid != os.geteuid() or (lock := hold(path)) is None:
                continue
        except OSError:
            continue  # it is gone, not a directory, or on a file system without locks
        try:
            shutil.rmtree(path, ignore_errors=True)
            _log.info("removed %s, which an agent that was killed left behind", path)
        finally:
            os.close(lock)


def _fresh(where: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
        # Before the directory is locked, another agent's sweep may remove it as a leftover.
        try:
            lock = hold(path)
        except FileNotFoundError:
            continue
        except OSError:  # on a file system without locks no agent removes leftovers
            return path, os.open(os.devnull, os.O_RDONLY)
        if lock is not None and path.exists():
            return path, lock
        if lock is not None:
            os.close(lock)


def hold(path: Path) -> int | None:
    """Lock a directory and return the descriptor that holds the lock; None if another process has locked it.

    Raises:
        OSError: if the directory is gone, is no directory, or is on a file system without locks.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


class SocketDirectory:
    """The directory of workers' sockets: scratch if its path is short and plain enough, else one of its own."""

    def __init__(self, scratch: Path) -> None:
        fit = is_fit_for_sockets(scratch, _LONGEST_NAME)
        self._own = None if fit else locked_directory(parent_for_sockets(f"{PREFIX}12345678/{_LONGEST_NAME}"))
        self._path = self._own.__enter__() if self._own is not None else scratch.absolute()

    def address(self, slot: int, generation: int) -> str:
        """Return a new address for a worker's socket, at which no process has listened before."""
        self._path.mkdir(mode=0o700, exist_ok=True)  # a cleaner of temporary files may have removed it
        path = self._path / f"worker-{slot}-{generation}.sock"
        path.unlink(missing_ok=True)
        return f"unix:{path}"

    def remove(self) -> None:
        """Remove the directory unless it is scratch."""
        if self._own is not None:
            self._own.__exit__(None, None, None)
            self._own = None
