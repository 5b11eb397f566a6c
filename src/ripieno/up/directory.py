"""The layout of the data directory, and the locks that say which process uses it.

::

    DIR/lock                    held by the one `up` that uses DIR; its process id is in it
    DIR/run/NAME.lock           held by the process NAME (by nobody once it ended); its process id is in it
    DIR/run/agent.id            id of the present or last agent, by which the next one replaces it
    DIR/logs/NAME.log           log of the process NAME
    DIR/logs/NAME.stdout.log    standard output of the process NAME
    DIR/logs/worker-SLOT.log    output of the worker in that slot
    DIR/objects/                large payloads and results
    DIR/scratch/                scratch directory of the agent; emptied before each of its starts
    DIR/postgres/               files of the database; the directory is locked by the server

The locks are the kernel's (``flock``): a lock ends exactly when its holder does, and the process
id in the file of a lock that is held is the id of a living process.
"""

import asyncio
import fcntl
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ripieno.up.errors import DirectoryHeldError, UpError
from ripieno.up.soundness import check_soundness

#: A process whose `up` was killed ends by itself within this many seconds.
ORPHAN_END_S = 5.0
POLL_S = 0.02

_IDENTITY = re.compile("[0-9a-f]{32}")


class DataDirectory:
    """The data directory of one cluster.

    Args:
        path: The directory, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._is_new = False

    @property
    def postgres(self) -> Path:
        """Directory of the database's files."""
        return self.path / "postgres"

    @property
    def objects(self) -> Path:
        """Directory of large payloads and results."""
        return self.path / "objects"

    @property
    def scratch(self) -> Path:
        """Directory of the agent's sockets and spilled data, needed only while it runs."""
        return self.path / "scratch"

    @property
    def logs(self) -> Path:
        """Directory of the processes' logs, and of what they and the workers print."""
        return self.path / "logs"

    def log(self, name: str) -> Path:
        """Return the path of the log called `name`, usually after a process."""
        return self.logs / f"{name}.log"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the directory if it is missing, and hold its lock for the time of the context (UP-1).

        Raises:
            DirectoryHeldError: if another ``up`` holds the directory; nothing was changed in it.
            UpError: if the directory cannot be made or written, or no cluster can live there.
        """
        check_soundness(self.path)
        self._is_new = not self.path.exists()
        try:
            # Other users may pass through (an unprivileged PostgreSQL must, under root), but not list it.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711)
            lock = _lock_now(self.path / "lock")
        except OSError as error:
            raise UpError(f"cannot use {self.path}: {error.strerror}; choose another directory with --data") from error
        if lock is None:
            raise DirectoryHeldError(
                f"{self.path} is in use by another `ripieno up` (process {_recorded(self.path / 'lock')}): "
                "stop that one, or choose another directory with --data"
            )
        try:
            record_holder(lock, os.getpid())
            self.make_places()
            yield
        finally:
            os.close(lock)

    def make_places(self) -> None:
        """Make the directories of logs, locks and objects where they are missing.

        Raises:
            UpError: if one of the directories cannot be made.
        """
        for place in (self.path / name for name in ("logs", "run", "objects")):
            try:
                place.mkdir(exist_ok=True, mode=0o700)
            except OSError as error:
                raise UpError(f"cannot use {place}: {error.strerror}; choose another directory with --data") from error

    def forget_if_new(self) -> None:
        """Remove the directory if this ``up`` made it and nothing has run in it; call it before ``held`` ends."""
        if self._is_new:
            shutil.rmtree(self.path, ignore_errors=True)

    def exchange_identity(self, name: str, mine: str) -> str:
        """Store the new id `mine` of the process ``name``; return its previous id, empty if that is unknown."""
        path = self.path / "run" / f"{name}.id"
        before = ""
        with suppress(OSError):  # without the previous id, tasks are rescued later, when the lease has run out
            before = path.read_text(errors="replace").strip()
        with suppress(OSError):
            path.write_text(f"{mine}\n")
        return before if _IDENTITY.fullmatch(before) else ""

    async def let_orphans_end(self, *names: str) -> None:
        """Wait until no process of an earlier ``up`` is left (UP-3), so that its port is free.

        A process that does not end by itself is killed.

        Args:
            names: Names of the processes.

        Raises:
            DirectoryHeldError: if one of the processes cannot be ended.
            UpError: if the file of a lock cannot be used.
        """
        for name in names:
            os.close(await self.lock_of(name))

    async def lock_of(self, name: str) -> int:
        """Wait for the lock of the process ``name`` and take it; return its descriptor, for the process to inherit.

        A predecessor that still holds the lock and does not end by itself is killed.

        Raises:
            DirectoryHeldError: if the predecessor cannot be ended.
            UpError: if the lock's file cannot be used.
        """
        path = self.path / "run" / f"{name}.lock"
        try:
            return await self._lock_once_free(path, name)
        except OSError as error:
            raise UpError(
                f"cannot use {path}: {error.strerror}; move it away, or choose another directory with --data"
            ) from error

    async def _lock_once_free(self, path: Path, name: str) -> int:
        for number in (None, signal.SIGKILL):
            orphan = _recorded(path)
            if number is not None and orphan is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(orphan, number)
            deadline = asyncio.get_running_loop().time() + ORPHAN_END_S
            while (lock := _lock_now(path)) is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            if lock is not None:
                return lock
        raise DirectoryHeldError(
            f"process {_recorded(path)}, the {name} of an earlier run, does not end: end it by hand"
        )


def record_holder(lock: int, pid: int) -> None:
    """Write the holder's process id into the file of the lock with the descriptor `lock`."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{pid}\n".encode(), 0)


def _lock_now(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _recorded(path: Path) -> int | None:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
