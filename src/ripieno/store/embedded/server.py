"""The life of one embedded PostgreSQL server."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from ripieno.sockets import is_short_enough, parent_for_sockets
from ripieno.store.embedded import watch
from ripieno.store.embedded.account import Account, AccountError, account_for
from ripieno.store.embedded.files import (
    DATABASE,
    SUPERUSER,
    EmbeddedPostgresError,
    check_version,
    find_binaries,
    is_missing,
    make_database,
    spawn,
)
from ripieno.store.embedded.settings import as_arguments, for_disk

#: Names the socket file only; no network port is opened.
PORT = 5432

#: What PostgreSQL makes beside its socket.
_LONGEST_NAME = f".s.PGSQL.{PORT}.lock"
SOCKET_DIRECTORY_PREFIX = "ripieno-pg-"

#: Reading back two gigabytes of log after a crash stays well below this.
START_TIMEOUT_S = 60.0
#: A fast shutdown writes one checkpoint.
STOP_TIMEOUT_S = 30.0
#: Between two looks whether its socket is there.
SOCKET_LOOK_S = 2.0
#: A server whose owner is gone has been told by its sentinel, and ends within this.
SENTINEL_TIMEOUT_S = 5.0


_log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """One server on one data directory, owned by this process.

    The caller sees to it that no other live owner uses the directory; what a dead owner
    left running there is stopped first (PG-1). May be started again after ``stop``, or
    after the server died; in the latter case the URL stays the same.

    Example:
        async with EmbeddedPostgres(Path(".ripieno/postgres")) as url:
            connection = await asyncpg.connect(url)

    Args:
        data: The data directory; made, with its parents, where it is missing.
        log: The file that the server's messages are appended to.
        overrides: PostgreSQL settings that win over SERVER_SETTINGS.
    """

    def __init__(self, data: Path, *, log: Path | None = None, overrides: Mapping[str, str] | None = None) -> None:
        self.data = data.absolute()
        self.log = (log or self.data.with_name(f"{self.data.name}.log")).absolute()
        self._overrides = dict(overrides or {})
        self._binaries = find_binaries()
        self._account = Account()
        self._sockets: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sentinel: watch.Sentinel | None = None
        self._log_begins = 0

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while it was not started."""
        return self._process.pid if self._process else None

    @property
    def url(self) -> str:
        """Where the database is; known from ``prepare`` on."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of one of this server's databases."""
        if self._sockets is None:
            raise EmbeddedPostgresError("the server was not prepared; call start() first")
        directory = quote(str(self._sockets), safe="")
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={directory}&port={PORT}"

    async def prepare(self) -> str:
        """Choose the account and the socket, and make the database files where they are missing.

        Idempotent; ``start`` calls it.

        Returns:
            The URL, before anything listens there.

        Raises:
            EmbeddedPostgresError: nothing was started.
        """
        if self._sockets is None:
            try:
                self.data.parent.mkdir(parents=True, exist_ok=True)
                self._account = account_for(self.data, (self.data.parent, self._binaries))
            except (AccountError, OSError) as error:
                raise EmbeddedPostgresError(str(error)) from error
            try:
                if is_missing(self.data):
                    await asyncio.to_thread(make_database, self._account, self._binaries, self.data)
                check_version(self.data)
                os.close(await self._only_us())
                self._sockets = self._socket_directory()
            except OSError as error:
                raise EmbeddedPostgresError(
                    f"cannot use {self.data}: {error.strerror or error}; choose another data directory"
                ) from error
        return self.url

    async def start(self) -> str:
        """Start the server and return its URL once it accepts connections.

        Raises:
            EmbeddedPostgresError: it did not start; the message quotes the end of its log.
        """
        await self.prepare()
        try:
            lock = await self._only_us()
            try:
                self._process = self._spawn_server(lock)
            finally:
                os.close(lock)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise EmbeddedPostgresError(f"cannot start PostgreSQL: {error.strerror or error}{where}") from error
        self._sentinel = watch.Sentinel(self._process.pid)
        try:
            await self._wait_until_ready(self._process)
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def stop(self) -> None:
        """Stop the server: open transactions are rolled back, what was committed is on the disk.

        Idempotent. Insists by harder signals if the server does not end within
        STOP_TIMEOUT_S; even then nothing committed is lost.
        """
        if self._process is not None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                watch.send_signal(self._process.pid, number)
                if await self._ended_within(self._process, STOP_TIMEOUT_S):
                    break
        self._dismiss_sentinel()
        if self._sockets is not None and self._sockets != self.data:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._process = self._sockets = None

    async def wait(self) -> int:
        """Wait until the server ends, whoever ended it; return its exit code.

        A server whose socket was removed (by a cleaner of temporary files, say) cannot be reached any
        more, and does not make another one: it is told to end, so that it can be started again.
        """
        if self._process is None:
            raise EmbeddedPostgresError("the server was not started")
        ended = asyncio.ensure_future(asyncio.to_thread(self._process.wait))
        try:
            while not (await asyncio.wait([ended], timeout=SOCKET_LOOK_S))[0]:
                if not self._can_be_found():
                    _log.warning("PostgreSQL's socket in %s was removed; it is started again", self._sockets)
                    watch.send_signal(self._process.pid, signal.SIGINT)
                    await asyncio.wait([ended], timeout=STOP_TIMEOUT_S)
            self._dismiss_sentinel()
            return ended.result()
        finally:
            ended.cancel()

    def _can_be_found(self) -> bool:
        return self._sockets is not None and (self._sockets / f".s.PGSQL.{PORT}").exists()

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _only_us(self) -> int:
        """Stop a server that a dead owner left here (PG-1); return the lock on the directory.

        Raises:
            EmbeddedPostgresError: it would not go.
        """
        lock = watch.try_lock(self.data)
        for number, patience_s in (
            (None, SENTINEL_TIMEOUT_S),
            (signal.SIGINT, STOP_TIMEOUT_S),
            (signal.SIGKILL, STOP_TIMEOUT_S),
        ):
            if lock is not None:
                break
            leftover = watch.recorded_pid(self.data)
            if leftover is not None and number is not None:
                watch.send_signal(leftover, number)
            lock = await watch.lock_within(self.data, patience_s)
        if lock is None:
            raise EmbeddedPostgresError(
                f"another PostgreSQL still runs on {self.data} (process {watch.recorded_pid(self.data)}) "
                "and does not stop: end it, then try again"
            )
        # Of a server that was killed together with its owner.
        directory = watch.recorded_socket_directory(self.data)
        if directory and directory != self._sockets and directory.name.startswith(SOCKET_DIRECTORY_PREFIX):
            shutil.rmtree(directory, ignore_errors=True)
        return lock

    def _spawn_server(self, lock: int) -> subprocess.Popen[bytes]:
        assert self._sockets is not None, "prepare has chosen the directory"
        if not self._sockets.exists():
            self._sockets.mkdir(mode=0o700)
            self._account.own(self._sockets)
        # Stale files could name a stranger's process, and the server then refuses to start.
        for stale in (self.data / "postmaster.pid", *self._sockets.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)
        settings = {**for_disk(shutil.disk_usage(self.data).free), **self._overrides}
        arguments = ["-D", str(self.data), "-k", str(self._sockets), "-p", str(PORT), *as_arguments(settings)]
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            return spawn(
                self._account, self._binaries / "postgres", arguments, stdout=log, stderr=log, pass_fds=(lock,)
            )

    def _socket_directory(self) -> Path:
        """The data directory itself where the socket's path is short enough, else a private one."""
        if "," not in str(self.data) and is_short_enough(self.data, _LONGEST_NAME):  # a comma would begin another
            return self.data
        try:
            parent = parent_for_sockets(f"{SOCKET_DIRECTORY_PREFIX}12345678/{_LONGEST_NAME}")
            directory = Path(tempfile.mkdtemp(prefix=SOCKET_DIRECTORY_PREFIX, dir=parent))
        except OSError as error:
            raise EmbeddedPostgresError(str(error)) from error
        self._account.own(directory)
        return directory

    async def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        problem = f"was not ready after {START_TIMEOUT_S:.0f} s"
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not watch.accepts_connections(self.data, process.pid):
                    if process.poll() is not None:
                        problem = f"ended with exit code {process.returncode}"
                        break
                    await asyncio.sleep(watch.POLL_S)
                else:
                    return
        except TimeoutError:
            pass  # said below, as the early end is
        raise EmbeddedPostgresError(f"PostgreSQL {problem}; {self.log} ends with:\n{self._tail()}")

    def _tail(self, lines: int = 5) -> str:
        """The last lines that the server logged since its latest start."""
        try:
            with self.log.open("rb") as log:
                log.seek(self._log_begins)
                said = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            return f"(its log cannot be read: {error.strerror})"
        return "\n".join(said[-lines:])

    def _dismiss_sentinel(self) -> None:
        if self._sentinel is not None:
            self._sentinel.dismiss()
            self._sentinel = None

    @staticmethod
    async def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
        try:
            await asyncio.to_thread(process.wait, seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
